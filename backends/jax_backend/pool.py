"""Rows of a table, pooled into bags: the XLA form of loops.GatherPool.

Sizes: N ids (padded), B bags (padded), R rows, D dim.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from recis_core.backends.jax_backend.loops import GatherPool
from recis_core.backends.jax_backend.ordered_sum import ordered_sum, segment_of, weighted
from recis_core.pallas_kernels.lifting import inverse, lift_of, lifted, size_bits


def gather_pool(
    table: jax.Array,
    rows: jax.Array,
    offsets: jax.Array,
    weights: jax.Array | None,
    *,
    combiner: str,
    tile_len: int | None,
) -> jax.Array:
    """See loops.GatherPool."""
    if combiner == "none":
        return _known(weighted(table, rows, weights), rows)
    if combiner == "tile":
        return _tile(table, rows, offsets, weights, tile_len or 1)
    if combiner == "sum":
        return ordered_sum(table, rows, weights, offsets)
    by = weighing(offsets, weights, combiner, gather_pool)
    return ordered_sum(table, rows, by.weights, offsets) * by.inverse[:, None]


def _known(terms: jax.Array, rows: jax.Array) -> jax.Array:
    return jnp.where((rows >= 0)[:, None], terms, 0.0)


def _tile(table: jax.Array, rows: jax.Array, offsets: jax.Array, weights: jax.Array | None, tile_len: int) -> jax.Array:
    """[B, tile_len·D]: position j of bag b is occurrence offsets[b] + j, if the bag is that long."""
    at = offsets[:-1, None] + jnp.arange(tile_len, dtype=jnp.int32)
    inside = (at < offsets[1:, None]).reshape(-1)
    at = at.reshape(-1)
    named = jnp.where(inside, rows.at[at].get(mode="clip"), -1)
    scale = None if weights is None else weights.at[at].get(mode="clip")
    return _known(weighted(table, named, scale), named).reshape(offsets.shape[0] - 1, -1)


class Weighing(NamedTuple):
    """The divisor of each bag's sum, and weights lifted as the divisor is."""

    weights: jax.Array | None  # float32 [N], times the lift of their bag; None for ones
    inverse: jax.Array  # float32 [B], 1 / divisor of these weights; 0 where a bag gives zeros
    lift: jax.Array | None  # float32 [B], powers of two; None for ones


def weighing(offsets: jax.Array, weights: jax.Array | None, combiner: str, pooled: GatherPool) -> Weighing:
    """For "mean" and "sqrtn"; see Backend.pool. pooled: the loop that sums."""
    if weights is None:
        count = (offsets[1:] - offsets[:-1]).astype(jnp.float32)
        return Weighing(None, inverse(count if combiner == "mean" else jnp.sqrt(count), None), None)
    bag, size = segment_of(offsets, weights.shape[0]), size_bits(weights)
    top = jnp.zeros(offsets.shape[0] - 1, jnp.int32).at[bag].max(size, mode="drop")
    lift = lift_of(top)
    weights = lifted(weights, lift.at[bag].get(mode="clip"))
    terms = (weights if combiner == "mean" else weights * weights)[:, None]
    position = jnp.arange(terms.shape[0], dtype=jnp.int32)
    total = pooled(terms, position, offsets, None, combiner="sum", tile_len=None)[:, 0]
    return Weighing(weights, inverse(total if combiner == "mean" else jnp.sqrt(total), top), lift)
