"""See pallas_kernels.probe. Sizes: N keys, S buckets, W ways."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from recis_core.pallas_kernels.catalog.inputs import (
    ALL_WAYS,
    FORM,
    WAYS,
    N,
    empty_index,
    index_of,
    keys_of,
    settings_of,
)
from recis_core.pallas_kernels.index import Index, Keys
from recis_core.pallas_kernels.kernel import Kernel, Program, Sizes, Workload, shape
from recis_core.pallas_kernels.probe import Touch, probe
from recis_core.pallas_kernels.reference.bulk_insert import bulk_insert as reference_insert
from recis_core.pallas_kernels.reference.probe import probe as reference
from recis_core.pallas_kernels.tuning import probe_config


def program(touch: Touch | None, buckets: int = 1 << 16, ways: int = WAYS) -> Program:
    index, keys = index_of(buckets, ways), Keys(*(shape("uint32", N),) * 3)
    changed, fixed = (index.scores, index.stamps), index._replace(scores=None, stamps=None)
    shapes = (changed, fixed, keys, shape("bool", N), None if touch is None else shape("int32", 1))
    return Program(f"S={buckets} W={ways} {touch}", partial(_call, touch=touch), shapes, donated=(0,) if touch else ())


def _call(changed: Any, fixed: Index, *rest: Any, touch: Touch | None) -> Any:
    """Only scores and stamps change, and only they can be donated."""
    index = fixed._replace(scores=changed[0], stamps=changed[1])
    after, found = probe(index, *rest, form=FORM, touch=touch)
    return found if touch is None else ((after.scores, after.stamps), found)


def programs() -> tuple[Program, ...]:
    touches = (None, Touch(), Touch(counts=True))
    small = tuple(program(touch, ways=ways) for touch in touches for ways in ALL_WAYS)
    return (*small, program(Touch(), buckets=1 << 26))


def workload(rng: np.random.Generator, sizes: Sizes) -> Workload:
    """Unique keys, all of them there, in an index at load .75 or little below."""
    buckets = 1 << max(0, (sizes.rows // WAYS - 1).bit_length())
    keys = keys_of(np.arange(buckets * WAYS * 3 // 4))
    count = len(keys.lo)
    index = reference_insert(empty_index(buckets), keys, settings_of(count), form=FORM)[0]
    asked = jnp.asarray(rng.permutation(count)[: min(sizes.ids, count)])
    keys = Keys(*(words[asked] for words in keys))
    number = len(asked)
    arrays = (index, keys, jnp.ones(number, bool), jnp.full(1, 2, jnp.int32))
    return Workload(arrays, number * (12 + 8 * WAYS + 16 + 8 + 16), {"form": FORM, "touch": Touch()}, items=number)


KERNEL = Kernel(
    name="probe",
    call=probe,
    reference=reference,
    dtypes=("uint32",),
    moves="N·(12 + 8·W + 16 + 8), touching + N·16",
    programs=programs,
    workload=workload,
    configs=lambda dim: probe_config(WAYS),
)
