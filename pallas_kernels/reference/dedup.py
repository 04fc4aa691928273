"""See pallas_kernels.dedup.

Sizes: N keys, U unique keys.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recis_core.pallas_kernels.dedup import Unique
from recis_core.pallas_kernels.index import Keys, signed_order


def dedup(keys: Keys, valid: jax.Array, *, size: int | None = None) -> Unique:
    """As the kernel, by jnp.unique over rows of four words."""
    total = valid.shape[0]
    size = total if size is None else size
    words = jnp.stack([(~valid).astype(jnp.uint32), keys.uids, signed_order(keys.hi), keys.lo], 1)
    words = jnp.where(valid[:, None], words, jnp.array([1, 0, 0, 0], jnp.uint32))
    # One more than asked for: those not valid are one unique row, the last.
    unique, inverse, counts = jnp.unique(
        words, axis=0, return_inverse=True, return_counts=True, size=total + 1, fill_value=0
    )
    inverse = inverse.reshape(-1).astype(jnp.int32)
    count = jnp.max(jnp.where(valid, inverse, -1), initial=-1) + 1
    line = jnp.arange(total + 1, dtype=jnp.int32) < jnp.minimum(count, size)
    unique, counts = jnp.where(line[:, None], unique, 0), jnp.where(line, counts, 0).astype(jnp.int32)
    hi = jnp.where(line, signed_order(unique[:, 2]), 0)
    unique, counts, hi = (jnp.pad(x, [(0, size)] + [(0, 0)] * (x.ndim - 1))[:size] for x in (unique, counts, hi))
    offsets = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(counts, dtype=jnp.int32)])
    order = jnp.argsort(inverse, stable=True).astype(jnp.int32)
    kept = jnp.where(valid & (inverse < size), inverse, -1)
    return Unique(Keys(unique[:, 3], hi, unique[:, 1]), counts, offsets, kept, order, count)
