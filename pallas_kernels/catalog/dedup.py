"""See pallas_kernels.dedup. Sizes: N keys."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import numpy as np

from recis_core.pallas_kernels.catalog.inputs import keys_of, skewed
from recis_core.pallas_kernels.dedup import dedup
from recis_core.pallas_kernels.index import Keys
from recis_core.pallas_kernels.kernel import Kernel, Program, Sizes, Workload, shape
from recis_core.pallas_kernels.reference.dedup import dedup as reference
from recis_core.pallas_kernels.tuning import dedup_config


def program(count: int, size: int | None = None) -> Program:
    shapes = (Keys(*(shape("uint32", count),) * 3), shape("bool", count))
    return Program(f"N={count} size={size}", partial(dedup, size=size), shapes)


def programs() -> tuple[Program, ...]:
    return program(1 << 20), program(65_536, 40_000), program(100)


def workload(rng: np.random.Generator, sizes: Sizes) -> Workload:
    numbers = jnp.asarray(skewed(rng, sizes))
    keys = Keys(*(words[numbers] for words in keys_of(np.arange(sizes.rows))))
    unique = len(np.unique(np.asarray(numbers)))
    moved = sizes.ids * (3 * 12 + 4 + 8) + unique * 24
    return Workload((keys, jnp.ones(sizes.ids, bool)), moved, items=sizes.ids)


KERNEL = Kernel(
    name="dedup",
    call=dedup,
    reference=reference,
    dtypes=("uint32",),
    moves="N·48 + U·24, and XLA's sorts: 8 passes of 12 bytes read and written, 8 of 8",
    programs=programs,
    workload=workload,
    configs=lambda dim: dedup_config(),
)
