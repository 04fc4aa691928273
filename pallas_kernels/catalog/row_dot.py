"""See pallas_kernels.row_dot. Sizes: N ids, B gradient rows, R rows, D dim."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from recis_core.pallas_kernels.catalog.inputs import B, N, skewed, table_of, widths
from recis_core.pallas_kernels.kernel import Kernel, Program, Sizes, Workload, shape
from recis_core.pallas_kernels.operands import SCALED, TABLES
from recis_core.pallas_kernels.reference.row_dot import row_dot as reference
from recis_core.pallas_kernels.row_dot import row_dot
from recis_core.pallas_kernels.tuning import row_config


def program(dim: int, dtype: str = "float32", rows: int = 1 << 20, grad: str = "float32") -> Program:
    scale = shape("float32", rows) if dtype in SCALED else None
    shapes = (shape(dtype, rows, dim), shape("int32", N), shape(grad, B, dim), shape("int32", N), scale)
    return Program(f"D={dim} {dtype} R={rows}" + f" {grad}" * (grad != "float32"), row_dot, shapes)


def programs() -> tuple[Program, ...]:
    grads = tuple(program(64, dtype, grad=dtype) for dtype in ("bfloat16", "float16"))
    large = (program(128, rows=40_000_000), program(64, "int8", rows=3 * (1 << 30) // 64))
    return tuple(program(dim, dtype) for dim in widths() for dtype in TABLES) + grads + large


def workload(rng: np.random.Generator, sizes: Sizes) -> Workload:
    table, scale = table_of(rng, sizes)
    bags = max(1, sizes.ids // 8)
    grad = jax.random.normal(jax.random.key(1), (bags, sizes.dim), jnp.float32)
    sources = np.arange(sizes.ids, dtype=np.int32) // 8 % bags
    arrays = (table, jnp.asarray(skewed(rng, sizes)), grad, jnp.asarray(sources), scale)
    moved = sizes.ids * (sizes.dim * table.dtype.itemsize + 12) + grad.nbytes
    return Workload(arrays, moved, items=sizes.ids)


KERNEL = Kernel(
    name="row_dot",
    call=row_dot,
    reference=reference,
    dtypes=TABLES,
    moves="N·(D·itemsize + 12) + M·D·4",
    programs=programs,
    workload=workload,
    configs=row_config,
)
