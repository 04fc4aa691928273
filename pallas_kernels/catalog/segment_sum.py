"""See pallas_kernels.segment_sum. Sizes: N occurrences, U segments, B source rows, D dim."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from recis_core.pallas_kernels.catalog.inputs import B, N, U, segments, skewed, widths
from recis_core.pallas_kernels.kernel import Kernel, Program, Sizes, Workload, shape
from recis_core.pallas_kernels.operands import FLOATS
from recis_core.pallas_kernels.reference.segment_sum import segment_sum as reference
from recis_core.pallas_kernels.segment_sum import segment_sum
from recis_core.pallas_kernels.tuning import pool_config


def program(dim: int, dtype: str = "float32") -> Program:
    shapes = (shape(dtype, B, dim), shape("int32", N), shape("int32", U + 1), shape("float32", N))
    return Program(f"D={dim} {dtype}", segment_sum, shapes)


def programs() -> tuple[Program, ...]:
    return tuple(program(dim, dtype) for dim in widths() for dtype in FLOATS)


def workload(rng: np.random.Generator, sizes: Sizes) -> Workload:
    """Gradients of bags of 8 to the rows that a skewed batch touched."""
    bags = max(1, sizes.ids // 8)
    values = jax.random.normal(jax.random.key(0), (bags, sizes.dim), jnp.dtype(sizes.dtype))
    distinct, order, offsets = segments(skewed(rng, sizes))
    arrays = (values, jnp.asarray(order // 8 % bags), jnp.asarray(offsets), None)
    moved = (values.nbytes) + 4 * sizes.ids + len(distinct) * (4 * sizes.dim + 8)
    return Workload(arrays, moved, items=sizes.ids)


KERNEL = Kernel(
    name="segment_sum",
    call=segment_sum,
    reference=reference,
    dtypes=FLOATS,
    moves="M·D·itemsize + N·(4 + 4 if weighted) + U·(4·D + 8), the N reads of M rows from L2",
    programs=programs,
    workload=workload,
    configs=pool_config,
)
