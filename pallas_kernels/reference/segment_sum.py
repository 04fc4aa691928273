"""See pallas_kernels.segment_sum.

Sizes: N occurrences, U segments, M source rows, D dim.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def segment_sum(
    values: jax.Array, sources: jax.Array, offsets: jax.Array, weights: jax.Array | None = None
) -> jax.Array:
    """As the kernel, up to the order of its sums: XLA makes float atomics of it on a GPU."""
    position = jnp.arange(sources.shape[0], dtype=jnp.int32)
    segment = jnp.searchsorted(offsets[1:], position, side="right").astype(jnp.int32)
    terms = jnp.where((sources >= 0)[:, None], values[jnp.maximum(sources, 0)].astype(jnp.float32), 0.0)
    terms = terms if weights is None else terms * weights[:, None]
    return jax.ops.segment_sum(terms, segment, offsets.shape[0] - 1, indices_are_sorted=True)
