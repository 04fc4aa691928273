"""See pallas_kernels.select_rows. Sizes: U rows, D dim."""

from __future__ import annotations

from functools import partial

import numpy as np

from recis_core.pallas_kernels.catalog.inputs import B, widths
from recis_core.pallas_kernels.catalog.quantise import values_of
from recis_core.pallas_kernels.kernel import Kernel, Program, Sizes, Workload, shape
from recis_core.pallas_kernels.reference.select_rows import select_rows as reference
from recis_core.pallas_kernels.select_rows import select_rows
from recis_core.pallas_kernels.tuning import row_config


def program(dim: int, feedback: bool = True) -> Program:
    values = shape("float32", B, dim)
    shapes = (values, values if feedback else None, shape("int32"))
    return Program(f"D={dim} residual={feedback}", partial(select_rows, k=B // 10), shapes)


def programs() -> tuple[Program, ...]:
    return (program(64, feedback=False), *(program(dim) for dim in widths()))


def workload(rng: np.random.Generator, sizes: Sizes) -> Workload:
    """A tenth of the rows."""
    values, k = values_of(rng, sizes), sizes.ids // 10
    moved = 4 * sizes.dim * (2 * sizes.ids + sizes.ids) + 16 * sizes.ids
    return Workload((values,), moved, {"k": k}, items=sizes.ids)


KERNEL = Kernel(
    name="select_rows",
    call=select_rows,
    reference=reference,
    dtypes=("float32",),
    moves="U·D·4·(3 + 2 with a residual) + 16·U",
    programs=programs,
    workload=workload,
    configs=row_config,
)
