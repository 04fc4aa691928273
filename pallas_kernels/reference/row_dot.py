"""See pallas_kernels.row_dot."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def row_dot(
    table: jax.Array, rows: jax.Array, grad: jax.Array, sources: jax.Array, scale: jax.Array | None = None
) -> jax.Array:
    """As the kernel, but it may write both gathered [N, D] copies."""
    row, source = jnp.maximum(rows, 0), jnp.maximum(sources, 0)
    dots = (table[row].astype(jnp.float32) * grad[source].astype(jnp.float32)).sum(1)
    dots = dots if scale is None else dots * scale[row]
    return jnp.where((rows >= 0) & (sources >= 0), dots, 0.0)
