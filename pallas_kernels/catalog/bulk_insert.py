"""See pallas_kernels.bulk_insert. Sizes: Q new keys, S buckets, W ways."""

from __future__ import annotations

from functools import partial

import numpy as np

from recis_core.pallas_kernels.bulk_insert import bulk_insert
from recis_core.pallas_kernels.catalog.inputs import ALL_WAYS, FORM, WAYS, empty_index, index_of, keys_of, settings_of
from recis_core.pallas_kernels.index import Keys
from recis_core.pallas_kernels.insertion import Settings
from recis_core.pallas_kernels.kernel import Kernel, Program, Sizes, Workload, shape
from recis_core.pallas_kernels.reference.bulk_insert import bulk_insert as reference
from recis_core.pallas_kernels.tuning import lane_config


def program(evict: bool, new: int = 65_536, buckets: int = 1 << 17, ways: int = WAYS) -> Program:
    shapes = (index_of(buckets, ways), Keys(*(shape("uint32", new),) * 3), Settings(*(shape("int32"),) * 5))
    label = f"S={buckets} W={ways} Q={new}" + (" evicting" if evict else "")
    return Program(label, partial(bulk_insert, form=FORM, evict=evict), shapes, donated=(0,))


def programs() -> tuple[Program, ...]:
    small = tuple(program(evict, ways=ways) for evict in (False, True) for ways in ALL_WAYS)
    return (*small, program(False, new=1000), program(True, new=1 << 20, buckets=1 << 24))


def workload(rng: np.random.Generator, sizes: Sizes) -> Workload:
    """New keys into an index at load .5, which they bring to .625."""
    buckets = 1 << max(0, (sizes.rows // WAYS - 1).bit_length())
    held = buckets * WAYS // 2
    numbers = rng.permutation(held * 5 // 4)
    old, new = keys_of(numbers[:held]), keys_of(numbers[held:])
    index = reference(empty_index(buckets), old, settings_of(held), form=FORM)[0]
    count = len(new.lo)
    moved = count * (12 + 8 * WAYS + 2 * (60 + 16) + 32)
    return Workload((index, new, settings_of(count, step=2)), moved, {"form": FORM}, donated=(0,), items=count)


KERNEL = Kernel(
    name="bulk_insert",
    call=bulk_insert,
    reference=reference,
    dtypes=("uint32",),
    moves="Q·(12 + 8·W + 76 a round + 32), evicting + Q·(40·W + 24)",
    programs=programs,
    workload=workload,
    configs=lambda dim: lane_config(WAYS),
)
