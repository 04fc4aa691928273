"""Stochastic rounding to bfloat16 by counter-based noise, computed where it is used.

Noise depends on (seed, uid, id, t, column) alone: no array of it is ever read or written.

Sizes: U rows, D dim.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


class Rounding(NamedTuple):
    """Source of the noise: seed uint32 [2], high word first; of each row the id's halves, table uid and step t, uint32 [U]."""

    seed: jax.Array
    hi: jax.Array
    lo: jax.Array
    uid: jax.Array
    t: jax.Array


def threefry2x32(k0: jax.Array, k1: jax.Array, x0: jax.Array, x1: jax.Array) -> tuple[jax.Array, jax.Array]:
    """20 rounds, as jax.random: key (k0, k1), counter (x0, x1), all uint32 of one shape."""
    keys = (k0, k1, k0 ^ k1 ^ jnp.uint32(PARITY))
    x0, x1 = x0 + keys[0], x1 + keys[1]
    for group in range(5):
        for r in ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = ((x1 << jnp.uint32(r)) | (x1 >> jnp.uint32(32 - r))) ^ x0
        x0 = x0 + keys[(group + 1) % 3]
        x1 = x1 + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return x0, x1


def noise(
    seed: tuple[jax.Array, jax.Array], hi: jax.Array, lo: jax.Array, uid: jax.Array, t: jax.Array, column: jax.Array
) -> jax.Array:
    """uint32 [rows, columns] below 2**16. hi, lo, uid, t: [rows]; column: uint32 [columns].

    Columns 2j and 2j + 1 are the two words of one pair; each column computes its pair alone and keeps
    its half, for Triton has no interleaving of two arrays.
    """
    k0, k1 = threefry2x32(jnp.full_like(hi, seed[0]), jnp.full_like(hi, seed[1]), hi, lo)
    k0 = k0 ^ uid
    zero = jnp.zeros((hi.shape[0], column.shape[0]), jnp.uint32)
    pair, count = zero + (column >> jnp.uint32(1))[None, :], zero + t[:, None]
    even, odd = threefry2x32(zero + k0[:, None], zero + k1[:, None], pair, count)
    return jnp.where(((column & jnp.uint32(1)) == 0)[None, :], even, odd) & jnp.uint32(0xFFFF)


def round_to_bfloat16(value: jax.Array, noise: jax.Array) -> jax.Array:
    """float32 plus noise below its last bfloat16 bit, cut; inf and NaN stay what they are."""
    bits = jax.lax.bitcast_convert_type(value, jnp.uint32) + noise
    cut = jax.lax.bitcast_convert_type((bits >> jnp.uint32(16)) << jnp.uint32(16), jnp.float32)
    return jnp.where(jnp.isfinite(value), cut, value).astype(jnp.bfloat16)
