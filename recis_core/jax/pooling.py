"""Rows pooled into bags, with gradients in a fixed order.

Sizes: N rows, B bags, D dim.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from recis_core.backends.jax_backend.embed import Bags, Pooling, request_terms, weights_grad
from recis_core.backends.jax_backend.ordered_sum import weighted
from recis_core.backends.jax_backend.xla_loops import XLA_LOOPS
from recis_core.backends.spec import COMBINERS


def pool(
    rows: jax.Array,
    offsets: jax.Array,
    weights: jax.Array | None = None,
    *,
    combiner: str = "sum",
    tile_len: int | None = None,
) -> jax.Array:
    """One vector a bag, with gradients to rows and weights; the same as an engine's pooling.

    out[b] = Σ weights[i] · rows[i]   over offsets[b] ≤ i < offsets[b + 1]
    combiner="mean" divides by Σ weights, "sqrtn" by sqrt(Σ weights²); "tile" puts a bag's first tile_len rows side by
    side, "none" gives [N, D].

    Args:
      rows: float32 [N, D].
      offsets: integers [B + 1], from 0, non-decreasing; rows past the last offset are padding. An empty bag gives zeros.
      weights: float32 [N], or None for ones.

    Raises:
      ValueError: a shape, dtype or combiner is wrong.
    """
    _check(rows, offsets, weights, combiner, tile_len)
    weights = None if weights is None else jnp.asarray(weights)
    return _pool(jnp.asarray(rows), jnp.asarray(offsets, jnp.int32), weights, combiner, tile_len)


def offsets_of(segment_ids: jax.Array, bags: int) -> jax.Array:
    """int32 [bags + 1] of each row's bag, int [N], ascending; padding has numbers from `bags` on."""
    wanted = jnp.arange(bags + 1, dtype=jnp.int32)
    return jnp.searchsorted(jnp.asarray(segment_ids, jnp.int32), wanted, side="left").astype(jnp.int32)


def _check(rows: Any, offsets: Any, weights: Any, combiner: str, tile_len: int | None) -> None:
    if combiner not in COMBINERS:
        raise ValueError(f"combiner must be one of {', '.join(COMBINERS)}; got {combiner!r}.")
    if (combiner == "tile") != (tile_len is not None) or (tile_len is not None and tile_len < 1):
        raise ValueError(f"tile_len goes with combiner='tile', and is at least 1; got {tile_len} with {combiner!r}.")
    if rows.ndim != 2 or rows.dtype != jnp.float32:
        raise ValueError(f"rows must be float32 [N, D]; got {rows.dtype} {list(rows.shape)}.")
    if offsets.ndim != 1 or not len(offsets) or not jnp.issubdtype(offsets.dtype, jnp.integer):
        raise ValueError(f"offsets must be integers [B + 1]; got {offsets.dtype} {list(offsets.shape)}.")
    if weights is not None and (weights.shape != rows.shape[:1] or weights.dtype != jnp.float32):
        raise ValueError(
            f"weights must be float32 [{rows.shape[0]}], one a row; got {weights.dtype} {list(weights.shape)}."
        )


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _pool(
    rows: jax.Array, offsets: jax.Array, weights: jax.Array | None, combiner: str, tile_len: int | None
) -> jax.Array:
    everyone = jnp.arange(rows.shape[0], dtype=jnp.int32)
    if combiner == "none":
        everyone = jnp.where(everyone < offsets[-1], everyone, -1)
    return XLA_LOOPS.gather_pool(rows, everyone, offsets, weights, combiner=combiner, tile_len=tile_len)


def _forward(rows: Any, offsets: Any, weights: Any, combiner: str, tile_len: int | None) -> tuple[Any, Any]:
    return _pool(rows, offsets, weights, combiner, tile_len), (rows, offsets, weights)


def _backward(combiner: str, tile_len: int | None, kept: Any, grad: jax.Array) -> tuple[Any, None, Any]:
    rows, offsets, weights = kept
    size = rows.shape[0]
    bags, pooling = Bags(offsets, weights), Pooling(combiner, tile_len, size, weights is not None)
    terms = request_terms(grad, bags, pooling, XLA_LOOPS)
    real = (terms.source >= 0) & (jnp.arange(size) < offsets[-1])
    to_rows = jnp.where(real[:, None], weighted(terms.vectors, terms.source, terms.scale), 0.0)
    if weights is None:
        return to_rows, None, None
    position = jnp.arange(size, dtype=jnp.int32)
    to_weights = weights_grad(grad, rows, position, bags, terms, pooling, XLA_LOOPS)
    return to_rows, None, jnp.where(real, to_weights, 0.0)


_pool.defvjp(_forward, _backward)
