"""See pallas_kernels.fused_update. Sizes: U rows to update, N occurrences, B source rows, R rows, D dim, T lines of hyper."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from recis_core.pallas_kernels.catalog.inputs import B, N, T, U, segments, skewed, widths
from recis_core.pallas_kernels.fused_update import fused_update
from recis_core.pallas_kernels.kernel import Kernel, Program, Sizes, Workload, shape
from recis_core.pallas_kernels.reference.fused_update import fused_update as reference
from recis_core.pallas_kernels.rounding import Rounding
from recis_core.pallas_kernels.segment_sum import Segments
from recis_core.pallas_kernels.tuning import update_config

SLOTS = {"sgd": 0, "momentum": 1, "adam": 2, "adagrad": 1, "rowwise_adagrad": 1}  # rules as their users name them
ADAM = (-1e-3, 0.9, 0.1, 0.999, 1e-3, 1e-8, 1.0)


def program(
    dim: int, form: str, dtype: str = "float32", rows: int = 1 << 20, summed: bool = True, values: str = "float32"
) -> Program:
    """summed: values are the rows' gradients; else occurrences are summed in the same pass."""
    slots = tuple(shape("float32", rows, 1 if form == "rowwise_adagrad" else dim) for _ in range(SLOTS[form]))
    words = (shape("uint32", U),) * 4
    rounding = Rounding(shape("uint32", 2), *words) if dtype == "bfloat16" else None
    occurrences = None if summed else Segments(shape("int32", N), shape("int32", U + 1), shape("float32", N))
    hyper = shape("float32", T, 7 if form == "adam" else 3)
    numbers = (shape("int32", U), shape("int32", U), shape(values, U if summed else B, dim))
    shapes = (shape(dtype, rows, dim), slots, *numbers, hyper, shape("float32", 1), rounding, occurrences)
    label = f"D={dim} {dtype} {form} R={rows}" + ("" if summed else " summing") + f" {values}" * (values != "float32")
    return Program(label, partial(fused_update, kind="sgd" if form == "momentum" else form), shapes, donated=(0, 1))


def programs() -> tuple[Program, ...]:
    """Every rule and storage at every config, summing in the same pass, which takes the most registers."""
    kinds = [(form, dtype) for form in SLOTS for dtype in ("float32", "bfloat16")]
    found = [program(dim, *kind, summed=False) for dim in widths() for kind in kinds]
    found += [program(64, *kind) for kind in kinds]
    found += [program(64, "adam", summed=s, values=dtype) for dtype in ("bfloat16", "float16") for s in (True, False)]
    return (*found, program(128, "adam", rows=40_000_000), program(128, "adam", rows=40_000_000, summed=False))


def workload(rng: np.random.Generator, sizes: Sizes) -> Workload:
    """Adam on the rows that a skewed batch touched, their gradients summed in the same pass from bags of 8."""
    distinct, order, offsets = segments(skewed(rng, sizes))
    bags, count = max(1, sizes.ids // 8), len(distinct)
    make = lambda k: jax.random.uniform(jax.random.key(k), (sizes.rows, sizes.dim), jnp.float32)  # noqa: E731
    weights, slots = make(0).astype(sizes.dtype), (make(1), make(2))
    values = jax.random.normal(jax.random.key(3), (bags, sizes.dim), jnp.float32)
    words = (jnp.asarray(distinct.astype(np.uint32)),) * 4
    rounding = Rounding(jnp.array([1, 2], jnp.uint32), *words) if sizes.dtype == "bfloat16" else None
    occurrences = Segments(jnp.asarray(order // 8 % bags), jnp.asarray(offsets))
    numbers = (jnp.asarray(distinct), jnp.zeros(count, jnp.int32), values)
    arrays = (weights, slots, *numbers, jnp.array([ADAM], jnp.float32), jnp.ones(1), rounding, occurrences)
    moved = values.nbytes + 4 * sizes.ids + count * (sizes.dim * 2 * (weights.dtype.itemsize + 8) + 16)
    return Workload(arrays, moved, {"kind": "adam"}, donated=(0, 1), items=count)


KERNEL = Kernel(
    name="fused_update",
    call=fused_update,
    reference=reference,
    dtypes=("float32", "bfloat16"),
    moves="M·D·4 + 4·N + U·(2·D·(itemsize + 4·slots) + 16), the N reads of M rows from L2",
    programs=programs,
    workload=workload,
    configs=update_config,
)
