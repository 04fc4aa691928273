"""See pallas_kernels.quantise. Sizes: U rows, D dim."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from recis_core.pallas_kernels.catalog.inputs import B, widths
from recis_core.pallas_kernels.codes import CODES, code_columns
from recis_core.pallas_kernels.kernel import Kernel, Program, Sizes, Workload, shape
from recis_core.pallas_kernels.quantise import dequantise, quantise
from recis_core.pallas_kernels.reference.quantise import dequantise as dequantise_reference
from recis_core.pallas_kernels.reference.quantise import quantise as quantise_reference
from recis_core.pallas_kernels.tuning import code_config


def program(dim: int, dtype: str, feedback: bool = True) -> Program:
    values = shape("float32", B, dim)
    label = f"D={dim} {dtype}" + (" residual" if feedback else "")
    return Program(label, partial(quantise, dtype=dtype), (values, values if feedback else None))


def back_program(dim: int, dtype: str) -> Program:
    codes = shape(jnp.dtype(CODES[dtype].stored).name, B, code_columns(dtype, dim))
    scale = shape("float32", B) if CODES[dtype].largest else None
    return Program(f"D={dim} {dtype}", partial(dequantise, dtype=dtype, dim=dim), (codes, scale))


def programs() -> tuple[Program, ...]:
    plain = tuple(program(64, dtype, feedback=False) for dtype in CODES)
    return plain + tuple(program(dim, dtype) for dim in widths() for dtype in CODES)


def back_programs() -> tuple[Program, ...]:
    return tuple(back_program(dim, dtype) for dim in widths() for dtype in CODES)


def values_of(rng: np.random.Generator, sizes: Sizes) -> jax.Array:
    return jax.random.normal(jax.random.key(int(rng.integers(1 << 31))), (sizes.ids, sizes.dim), jnp.float32)


def workload(rng: np.random.Generator, sizes: Sizes) -> Workload:
    """int8 with error feedback."""
    values = values_of(rng, sizes)
    moved = sizes.ids * (sizes.dim * (4 + 4 + 4 + 1) + 4)
    return Workload((values, values * 0.01), moved, {"dtype": "int8"}, items=sizes.ids)


def back_workload(rng: np.random.Generator, sizes: Sizes) -> Workload:
    found = quantise_reference(values_of(rng, sizes), dtype="int8")
    options = {"dtype": "int8", "dim": sizes.dim}
    return Workload((found.codes, found.scale), sizes.ids * (sizes.dim * 5 + 4), options, items=sizes.ids)


KERNELS = (
    Kernel(
        name="quantise",
        call=quantise,
        reference=quantise_reference,
        dtypes=tuple(CODES),
        moves="U·(D·(4 + 8 with a residual + bits/8) + 4)",
        programs=programs,
        workload=workload,
        configs=code_config,
    ),
    Kernel(
        name="dequantise",
        call=dequantise,
        reference=dequantise_reference,
        dtypes=tuple(CODES),
        moves="U·(D·(4 + bits/8) + 4)",
        programs=back_programs,
        workload=back_workload,
        configs=code_config,
    ),
)
