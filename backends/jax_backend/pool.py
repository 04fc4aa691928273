"""Rows of a table, pooled into bags: the XLA form of hot.GatherPool.

Sizes: N ids (padded), B bags (padded), R rows, D dim.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from backends.jax_backend.hot import GatherPool
from backends.jax_backend.ordered_sum import ordered_sum, weighted


def gather_pool(
    table: jax.Array,
    rows: jax.Array,
    offsets: jax.Array,
    weights: jax.Array | None,
    *,
    combiner: str,
    tile_len: int | None,
) -> jax.Array:
    """See hot.GatherPool."""
    if combiner == "none":
        return _known(weighted(table, rows, weights), rows)
    if combiner == "tile":
        return _tile(table, rows, offsets, weights, tile_len or 1)
    summed = ordered_sum(table, rows, weights, offsets)
    return summed if combiner == "sum" else summed * reciprocal(offsets, weights, combiner, gather_pool)[:, None]


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


def reciprocal(offsets: jax.Array, weights: jax.Array | None, combiner: str, pooled: GatherPool) -> jax.Array:
    """1 / divisor of each bag, float32 [B]; 0 where the divisor is 0. pooled: who sums."""
    divisor = _divisor(offsets, weights, combiner, pooled)
    return jnp.where(divisor != 0, 1.0 / jnp.where(divisor != 0, divisor, 1.0), 0.0)


def _divisor(offsets: jax.Array, weights: jax.Array | None, combiner: str, pooled: GatherPool) -> jax.Array:
    if combiner not in ("mean", "sqrtn"):
        return jnp.ones(offsets.shape[0] - 1, jnp.float32)
    if weights is None:
        total = (offsets[1:] - offsets[:-1]).astype(jnp.float32)
    else:
        terms = (weights if combiner == "mean" else weights * weights)[:, None]
        position = jnp.arange(terms.shape[0], dtype=jnp.int32)
        total = pooled(terms, position, offsets, None, combiner="sum", tile_len=None)[:, 0]
    return total if combiner == "mean" else jnp.sqrt(total)
