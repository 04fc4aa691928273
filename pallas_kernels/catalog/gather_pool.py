"""See pallas_kernels.gather_pool. Sizes: N ids, B bags, R rows, D dim."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import numpy as np

from recis_core.pallas_kernels.catalog.inputs import B, N, skewed, table_of, widths
from recis_core.pallas_kernels.gather_pool import gather_pool
from recis_core.pallas_kernels.kernel import Kernel, Program, Sizes, Workload, shape
from recis_core.pallas_kernels.operands import SCALED, TABLES
from recis_core.pallas_kernels.reference.gather_pool import gather_pool as reference
from recis_core.pallas_kernels.tuning import pool_config


def program(dim: int, dtype: str, combiner: str = "sum", rows: int = 1 << 20, out: str = "float32") -> Program:
    scale = shape("float32", rows) if dtype in SCALED else None
    weights = None if combiner == "sum" else shape("float32", N)
    f = partial(gather_pool, combiner=combiner, tile_len=4 if combiner == "tile" else None, out_dtype=jnp.dtype(out))
    shapes = (shape(dtype, rows, dim), shape("int32", N), shape("int32", B + 1), weights, scale)
    return Program(f"D={dim} {dtype} {combiner} R={rows}" + f" {out}" * (out != "float32"), f, shapes)


def programs() -> tuple[Program, ...]:
    found = [program(dim, dtype, "mean") for dim in widths() for dtype in TABLES]
    found += [program(100, "float32", combiner) for combiner in ("sum", "sqrtn", "none", "tile")]
    found += [program(64, dtype, out=dtype) for dtype in ("bfloat16", "float16")]
    found += [program(128, "float32", rows=40_000_000), program(64, "int8", rows=3 * (1 << 30) // 64)]
    return tuple(found)


def workload(rng: np.random.Generator, sizes: Sizes) -> Workload:
    """Bags of 8 on average, skewed rows."""
    table, scale = table_of(rng, sizes)
    bags = max(1, sizes.ids // 8)
    offsets = np.sort(rng.integers(0, sizes.ids + 1, bags - 1))
    offsets = np.concatenate([[0], offsets, [sizes.ids]]).astype(np.int32)
    rows = skewed(rng, sizes)
    moved = sizes.ids * (sizes.dim * table.dtype.itemsize + 4) + bags * (4 * sizes.dim + 8)
    return Workload((table, jnp.asarray(rows), jnp.asarray(offsets), None, scale), moved, items=sizes.ids)


KERNEL = Kernel(
    name="gather_pool",
    call=gather_pool,
    reference=reference,
    dtypes=TABLES,
    moves="N·(D·itemsize + 4 + 4 if weighted) + B·(4·D + 8)",
    programs=programs,
    workload=workload,
    configs=pool_config,
)
