"""Rows as bytes and back, to be traced; backends.interface.Backend.encode has the formats and the arithmetic.

Sizes: P rows (padded), D dim.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recis_core.backends.jax_backend.initial_values import words
from recis_core.backends.jax_backend.loops import Loops
from recis_core.backends.jax_backend.lossless import from_lossless, packed_bits, to_lossless, unpacked_bits
from recis_core.backends.jax_backend.rounding import bits_of, float_of, flushed, to_bfloat16, to_small_float
from recis_core.backends.row_codes import CLAMPS, FP8, FP16, LARGEST, LEAST_ADDEND, LEAST_TOP, MAX_MEAN, mean_factors
from recis_core.backends.spec import RowCodec
from recis_core.pallas_kernels.codes import decoded, scale_of
from recis_core.pallas_kernels.index import Keys
from recis_core.pallas_kernels.order import sorted_with_position
from recis_core.pallas_kernels.select_rows import square

LAST_BIT_CLEARED = np.uint32(0xFFFFFFFE)
DTYPES = {"fp8": "float8_e4m3fn", "int8": "int8", "int4": "int4"}  # as pallas_kernels names them


class Words(NamedTuple):
    """Source of a stochastic encode's noise."""

    seed: jax.Array  # uint32 [2], high word first
    ids: jax.Array  # uint32 [P, 2], low word first
    uids: jax.Array  # int32 [P], the bits of uint32
    counter: jax.Array  # uint32 []


class Encoded(NamedTuple):
    codes: jax.Array  # uint8 [P, row_bytes]
    left: jax.Array | None  # float32 [P, D]
    finite: jax.Array  # bool [P]
    clamped: jax.Array  # int32 []
    tail: jax.Array | None = None  # uint8 [P·D], of which the lengths say how much counts
    lengths: jax.Array | None = None  # int32 [P]


def encode(
    values: jax.Array, residual: jax.Array | None, noise: Words | None, *, codec: RowCodec, loops: Loops
) -> Encoded:
    kind = codec.kind
    if kind in DTYPES and noise is None:
        return _quantised(values, residual, DTYPES[kind], loops)
    x = _summed(values, residual, kind)
    finite = jnp.isfinite(x).all(1)
    x = jnp.where(finite[:, None], x, 0)
    word = None if noise is None else _words(noise, x.shape[1])
    if kind in DTYPES or kind == "sign":
        codes, back = _signs(x, word) if kind == "sign" else _noisy(x, word, kind)
        return Encoded(codes, _left(x, back, residual), finite, jnp.int32(0))
    bound = CLAMPS.get(kind, float("inf"))
    over = (jnp.abs(x) > bound).sum(dtype=jnp.int32)
    codes, back, *tail = _floats(jnp.clip(x, -bound, bound) if kind in CLAMPS else x, word, kind)
    return Encoded(codes, _left(x, back, residual), finite, over, *tail)


def decode(codes: jax.Array, tail: jax.Array | None, *, codec: RowCodec, dim: int, loops: Loops) -> tuple:
    """(float32 [P, D], how many escapes the codes have)."""
    kind = codec.kind
    if kind == "lossless":
        code, escapes = from_lossless(codes, dim, tail)
        return float_of(code << 16), escapes
    if kind == "fp32":
        return _viewed(codes, jnp.float32), 0
    if kind == "bf16":
        return float_of(_viewed(codes, jnp.uint16).astype(jnp.uint32) << 16), 0
    if kind == "fp16":
        return _viewed(codes, jnp.float16).astype(jnp.float32), 0
    scale = _viewed(codes[:, :4], jnp.float32)
    if kind == "sign":
        return jnp.where(unpacked_bits(codes[:, 4:], dim) > 0, -scale, scale), 0
    stored = codes[:, 4:] if kind == "int4" else jax.lax.bitcast_convert_type(codes[:, 4:], jnp.dtype(DTYPES[kind]))
    return loops.dequantise(stored, scale[:, 0], dtype=DTYPES[kind], dim=dim), 0


def norm_order(values: jax.Array, count: jax.Array, *, loops: Loops) -> jax.Array:
    """Positions int32 [P] by norm, the largest first; what is past `count` comes last."""
    norms = loops.squared_norms(values)
    bits = bits_of(jnp.where(jnp.isfinite(norms), norms, jnp.inf))
    real = jnp.arange(norms.shape[0], dtype=jnp.int32) < count
    return sorted_with_position(jnp.where(real, ~bits, jnp.uint32(0xFFFFFFFF)))[1]


def squared_norms(values: jax.Array) -> jax.Array:
    """float32 [P]."""
    return _folded(square(values))[:, 0]


def _folded(x: jax.Array) -> jax.Array:
    """float32 [P, 1]: zeros up to a power of two of columns, then half added to half."""
    columns = x.shape[1]
    x = jnp.pad(x, ((0, 0), (0, (1 << (columns - 1).bit_length()) - columns)))
    while x.shape[1] > 1:
        x = x[:, : x.shape[1] // 2] + x[:, x.shape[1] // 2 :]
    return x


def _summed(values: jax.Array, residual: jax.Array | None, kind: str) -> jax.Array:
    if residual is not None:
        return flushed(flushed(values) + flushed(residual))
    return values if kind == "fp32" else flushed(values)


def _words(noise: Words, dim: int) -> jax.Array:
    keys = Keys(noise.ids[:, 0], noise.ids[:, 1], jax.lax.bitcast_convert_type(noise.uids, jnp.uint32))
    return words(noise.seed, keys, dim, noise.counter)


def _left(x: jax.Array, back: jax.Array, residual: jax.Array | None) -> jax.Array | None:
    return None if residual is None else flushed(x - back)


def _quantised(values: jax.Array, residual: jax.Array | None, dtype: str, loops: Loops) -> Encoded:
    codes, scale, left = loops.quantise(values, residual, dtype=dtype)
    finite = ~jnp.isnan(scale)
    joined = jnp.concatenate([_bytes(scale[:, None]), _bytes(codes)], 1)  # type: ignore[index]
    return Encoded(jnp.where(finite[:, None], joined, 0), left, finite, jnp.int32(0))


def _noisy(x: jax.Array, word: jax.Array, kind: str) -> tuple[jax.Array, jax.Array]:
    scale, top = scale_of([x], DTYPES[kind]), LARGEST[kind]
    ratio = jnp.clip(_ratio(x, scale[:, None]), -top, top)  # type: ignore[index]
    if kind == "fp8":
        code = to_small_float(ratio, word, FP8).astype(jnp.uint8)
        number, stored = jax.lax.bitcast_convert_type(code, jnp.float8_e4m3fn), code
    else:
        u = (word >> 8).astype(jnp.float32) * 2.0**-24
        number = jnp.clip(jnp.floor(_no_dust(ratio) + u), -top, top).astype(jnp.int32)
        stored = _bytes(number.astype(jnp.int8)) if kind == "int8" else _halves_joined(number & 15)
    head = _bytes(scale[:, None])  # type: ignore[index]
    return jnp.concatenate([head, stored], 1), decoded(number, scale, DTYPES[kind])


def _ratio(x: jax.Array, scale: jax.Array) -> jax.Array:
    return jnp.where(scale > 0, x / jnp.where(scale > 0, scale, 1), 0)


def _no_dust(ratio: jax.Array) -> jax.Array:
    return jnp.where(jnp.abs(ratio) < LEAST_ADDEND, 0, ratio)


def _halves_joined(code: jax.Array) -> jax.Array:
    code = jnp.pad(code, ((0, 0), (0, code.shape[1] % 2)))
    return (code[:, ::2] | code[:, 1::2] << 4).astype(jnp.uint8)


def _signs(x: jax.Array, word: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    scale = _mean(x)
    negative = bits_of(x) >> 31 > 0
    if word is not None:
        negative = (word >> 8).astype(jnp.float32) * 2.0**-23 - 1 >= _no_dust(_ratio(x, scale))
    negative &= scale > 0
    return jnp.concatenate([_bytes(scale), packed_bits(negative)], 1), jnp.where(negative, -scale, scale)


def _mean(x: jax.Array) -> jax.Array:
    """float32 [P, 1], the last bit cleared: a step that no compiler can fuse across."""
    (share, factor), size = mean_factors(x.shape[1]), jnp.abs(x)
    total = _folded(jnp.where(size < LEAST_ADDEND, 0, size) * share)
    mean = float_of(bits_of(jnp.minimum(total * factor, MAX_MEAN)) & LAST_BIT_CLEARED)
    return jnp.where(size.max(1, keepdims=True) >= LEAST_TOP, mean, 0)


def _floats(x: jax.Array, word: jax.Array | None, kind: str) -> tuple:
    """(bytes, the floats they decode to), and for lossless rows the tail and its lengths."""
    if kind == "fp32":
        return _bytes(x), x
    if kind == "fp16":
        code = to_small_float(x, word, FP16).astype(jnp.uint16)
        return _bytes(code), jax.lax.bitcast_convert_type(code, jnp.float16).astype(jnp.float32)
    code = to_bfloat16(x, word)
    if kind == "bf16":
        return _bytes(code.astype(jnp.uint16)), float_of(code << 16)
    codes, *tail = to_lossless(code)
    return codes, float_of(code << 16), *tail


def _bytes(x: jax.Array) -> jax.Array:
    """[P, n] -> uint8 [P, n · itemsize]."""
    if x.dtype.itemsize == 1:
        return jax.lax.bitcast_convert_type(x, jnp.uint8)
    return jax.lax.bitcast_convert_type(x, jnp.uint8).reshape(x.shape[0], -1)


def _viewed(codes: jax.Array, dtype: jnp.dtype) -> jax.Array:
    size = jnp.dtype(dtype).itemsize
    return jax.lax.bitcast_convert_type(codes.reshape(codes.shape[0], -1, size), dtype)
