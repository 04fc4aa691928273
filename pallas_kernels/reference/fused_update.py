"""See pallas_kernels.fused_update.

Sizes: U rows to update, R rows of the table, D dim.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recis_core.pallas_kernels.reference.segment_sum import segment_sum
from recis_core.pallas_kernels.rounding import Rounding, noise, round_to_bfloat16
from recis_core.pallas_kernels.rules import RULES
from recis_core.pallas_kernels.segment_sum import Segments


def fused_update(
    weights: jax.Array,
    slots: tuple[jax.Array, ...],
    rows: jax.Array,
    ordinals: jax.Array,
    values: jax.Array,
    hyper: jax.Array,
    factor: jax.Array,
    rounding: Rounding | None = None,
    segments: Segments | None = None,
    *,
    kind: str,
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """As the kernel; the summed gradient is written and read again. The arithmetic of a row, rules.py, is shared."""
    summed = values if segments is None else segment_sum(values, *segments)
    at, into = jnp.maximum(rows, 0), jnp.where(rows >= 0, rows, weights.shape[0])
    line = hyper[ordinals]
    numbers = {name: line[:, k : k + 1] for k, name in enumerate(RULES[kind].hyper)}
    w, *loaded = (x[at].astype(jnp.float32) for x in (weights, *slots))
    w, stepped = RULES[kind].apply(numbers, w, summed.astype(jnp.float32) * factor, tuple(loaded), weights.shape[1])
    if rounding is not None:
        seed = rounding.seed[0], rounding.seed[1]
        column = jnp.arange(weights.shape[1], dtype=jnp.uint32)
        w = round_to_bfloat16(w, noise(seed, *rounding[1:], column))
    put = [x.at[into].set(v, mode="drop") for x, v in zip((weights, *slots), (w, *stepped), strict=True)]
    return put[0], tuple(put[1:])
