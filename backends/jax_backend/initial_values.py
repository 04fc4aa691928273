"""Initial values and rounding noise: backends.initial_values in jnp, bit for bit.

Sizes: N keys, D dim.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recis_core.backends.initial_values import CELLS, HALF, MIN_TAIL
from recis_core.backends.jax_backend.state import Constants
from recis_core.pallas_kernels.index import Keys
from recis_core.pallas_kernels.rounding import threefry2x32

LOW_MASK = 0x7FFFFFFF


def words(seed: jax.Array, keys: Keys, dim: int, counter: jax.Array, first: jax.Array | int = 0) -> jax.Array:
    """Random words uint32 [N, D] of pairs of columns from `first` on; counter uint32 [N] or [], 0 for initial values."""
    k0, k1 = threefry2x32(*jnp.broadcast_arrays(seed[0], seed[1], keys.hi, keys.lo))
    k0 = k0 ^ keys.uids
    shape = (keys.lo.shape[0], (dim + 1) // 2)
    pair = jax.lax.broadcasted_iota(jnp.uint32, shape, 1) + jnp.uint32(first)
    count = jnp.broadcast_to(counter.astype(jnp.uint32).reshape(-1, 1), shape)
    pairs = threefry2x32(jnp.broadcast_to(k0[:, None], shape), jnp.broadcast_to(k1[:, None], shape), pair, count)
    return jnp.stack(pairs, -1).reshape(shape[0], -1)[:, :dim]


def look_up(quantiles: jax.Array, word: jax.Array) -> jax.Array:
    """Words uint32 -> int32 quantiles, linear between entries; quantiles int32 [2 * HALF]."""
    tail = jnp.maximum(word & jnp.uint32(LOW_MASK), jnp.uint32(MIN_TAIL))
    octave = jax.lax.clz(tail) - 1
    inside = jnp.uint32((1 << 30) - 1) - ((tail << octave) - jnp.uint32(1 << 30))
    cell, t = (inside >> 24).astype(jnp.int32), ((inside >> 10) & 0x3FFF).astype(jnp.int32)
    at = (word >> 31).astype(jnp.int32) * HALF + octave.astype(jnp.int32) * CELLS + cell
    low = quantiles.at[at].get(mode="promise_in_bounds")
    d = quantiles.at[at + 1].get(mode="promise_in_bounds") - low
    # In two parts, so that int32 suffices: d may take 27 bits and t takes 14.
    return low + (((d >> 10) * t + (((d & 1023) * t) >> 10)) >> 4)


def initial_values(constants: Constants, keys: Keys, dim: int) -> jax.Array:
    """float32 [N, D]: what each key begins as."""
    word = words(constants.seed, keys, dim, jnp.uint32(0), constants.first_pair)
    return look_up(constants.quantiles, word).astype(jnp.float32) * constants.scale


def noisy_bfloat16(values: jax.Array, noise: jax.Array) -> jax.Array:
    """float32 [N, D], words [N, D] -> bfloat16: the words' low halves are added to the bits before the cut."""
    bits = jax.lax.bitcast_convert_type(values, jnp.uint32)
    upper = ((bits + (noise & jnp.uint32(0xFFFF))) >> 16).astype(jnp.uint16)
    cut = jax.lax.bitcast_convert_type(upper, jnp.bfloat16)
    return jnp.where(jnp.isfinite(values), cut, values.astype(jnp.bfloat16))
