"""See pallas_kernels.gather_pool.

Sizes: N ids, B bags, R rows, D dim.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from recis_core.pallas_kernels.lifting import inverse, lift_of, lifted, size_bits


def gather_pool(
    table: jax.Array,
    rows: jax.Array,
    offsets: jax.Array,
    weights: jax.Array | None = None,
    scale: jax.Array | None = None,
    *,
    combiner: str = "sum",
    tile_len: int | None = None,
    out_dtype: Any = jnp.float32,
) -> jax.Array:
    """As the kernel; writes the gathered [N, D] copy, and its sums have no fixed order on a GPU."""
    position = jnp.arange(rows.shape[0], dtype=jnp.int32)
    real = position < offsets[-1]
    weight = jnp.where(real, 1.0 if weights is None else weights, 0.0)
    values = _read(table, jnp.where(real, rows, -1), scale)
    bags = offsets.shape[0] - 1
    bag = jnp.searchsorted(offsets[1:], position, side="right").astype(jnp.int32)
    if combiner in ("mean", "sqrtn"):
        top = jnp.zeros(bags, jnp.int32).at[bag].max(size_bits(weight), mode="drop")
        weight = lifted(weight, lift_of(top).at[bag].get(mode="clip"))
    values = values * weight[:, None]
    if combiner == "none":
        return values.astype(out_dtype)
    if combiner == "tile":
        return _tile(values, offsets, bag, tile_len or 1).astype(out_dtype)
    total = jax.ops.segment_sum(values, bag, bags)
    if combiner == "sum":
        return total.astype(out_dtype)
    squares = jax.ops.segment_sum(weight * weight if combiner == "sqrtn" else weight, bag, bags)
    by = inverse(jnp.sqrt(squares) if combiner == "sqrtn" else squares, top)
    return (total * by[:, None]).astype(out_dtype)


def _read(table: jax.Array, rows: jax.Array, scale: jax.Array | None) -> jax.Array:
    at = jnp.where(rows >= 0, rows, 0)
    values = table[at].astype(jnp.float32)
    values = values if scale is None else values * scale[at][:, None]
    return jnp.where((rows >= 0)[:, None], values, 0.0)


def _tile(values: jax.Array, offsets: jax.Array, bag: jax.Array, tile_len: int) -> jax.Array:
    bags, dim = offsets.shape[0] - 1, values.shape[1]
    place = jnp.arange(values.shape[0], dtype=jnp.int32) - offsets[jnp.minimum(bag, bags - 1)]
    inside = (bag < bags) & (place < tile_len)
    at = jnp.where(inside, bag * tile_len + place, bags * tile_len)
    return jnp.zeros((bags * tile_len, dim), values.dtype).at[at].set(values, mode="drop").reshape(bags, -1)
