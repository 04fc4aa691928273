"""bfloat16 rows with exponents counted down from the row's largest, and the bits of rows side by side.

Sizes: P rows (padded), D dim.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recis_core.backends.row_codes import ESCAPE
from recis_core.pallas_kernels.order import compact


def to_lossless(code: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """bfloat16 bits uint32 [P, D] -> (bytes uint8 [P, row_bytes], tail uint8 [P·D], int32 [P], each row's part of it)."""
    exponent = (code >> 7) & 255
    top = exponent.max(1, keepdims=True)
    fraction = ((code >> 8) & 128) | (code & 127)
    delta = jnp.minimum(top - exponent, ESCAPE)
    escaped = delta == ESCAPE
    three = jnp.stack([(delta >> i) & 1 for i in range(3)], 2).reshape(code.shape[0], -1)
    parts = (top.astype(jnp.uint8), fraction.astype(jnp.uint8), packed_bits(three))
    tail = compact(exponent.astype(jnp.uint8).reshape(-1), escaped.reshape(-1))
    return jnp.concatenate(parts, 1), tail, escaped.sum(1, dtype=jnp.int32)


def from_lossless(codes: jax.Array, dim: int, tail: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(bfloat16 bits uint32 [P, D], how many escapes there are); tail: uint8 [P·D], padded."""
    bits = unpacked_bits(codes[:, 1 + dim :], 3 * dim).reshape(-1, dim, 3)
    delta = bits[:, :, 0] | bits[:, :, 1] << 1 | bits[:, :, 2] << 2
    escaped = delta == ESCAPE
    nth = jnp.cumsum(escaped.reshape(-1), dtype=jnp.int32).reshape(escaped.shape)
    escape = tail.at[nth - 1].get(mode="clip").astype(jnp.uint32)
    exponent = jnp.where(escaped, escape, (codes[:, :1].astype(jnp.uint32) - delta) & 255)
    fraction = codes[:, 1 : 1 + dim].astype(jnp.uint32)
    return (fraction & 128) << 8 | exponent << 7 | (fraction & 127), nth[-1, -1]


def packed_bits(bits: jax.Array) -> jax.Array:
    """0 and 1 [P, n] -> uint8 [P, ⌈n/8⌉], low bit first."""
    bits = jnp.pad(bits.astype(jnp.uint32), ((0, 0), (0, -bits.shape[1] % 8)))
    places = jnp.arange(8, dtype=jnp.uint32)
    return (bits.reshape(bits.shape[0], -1, 8) << places).sum(2, dtype=jnp.uint32).astype(jnp.uint8)


def unpacked_bits(packed: jax.Array, count: int) -> jax.Array:
    """uint32 [P, count]."""
    places = jnp.arange(8, dtype=jnp.uint32)
    bits = (packed[:, :, None].astype(jnp.uint32) >> places) & 1
    return bits.reshape(packed.shape[0], -1)[:, :count]
