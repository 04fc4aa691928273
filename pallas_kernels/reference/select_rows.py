"""See pallas_kernels.select_rows.

Sizes: U rows, K rows to select, D dim.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recis_core.pallas_kernels.select_rows import Selected


def select_rows(
    values: jax.Array, residual: jax.Array | None = None, count: jax.Array | None = None, *, k: int
) -> Selected:
    """As the kernel, but for equal norms that it adds up in another order."""
    x = values if residual is None else values + residual
    real = jnp.arange(x.shape[0]) < (x.shape[0] if count is None else count)
    norms = (x * x).sum(1)
    norms = jnp.where(jnp.isnan(norms), jnp.inf, norms)  # top_k puts NaN first, too, but says so of no other
    top = jax.lax.top_k(jnp.where(real, norms, -1.0), k)[1].astype(jnp.int32)
    indices = jnp.sort(jnp.where(real[top], top, x.shape[0]))
    rows = x.at[indices].get(mode="fill", fill_value=0)
    return Selected(indices, rows, x.at[indices].set(0.0, mode="drop"))
