"""A table in host memory: the index with its stash behind it, the rows, the free rows.

Sizes: S buckets, W ways, R rows, D dim, T logical tables.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from recis_core.backends import placement
from recis_core.backends.errors import BackendUnavailable
from recis_core.backends.memory import zeroed
from recis_core.backends.row_checks import new_slots
from recis_core.backends.rows_now import RowsNow
from recis_core.backends.spec import Counters, SlotSpec, TableSpec
from recis_core.backends.whole import Unfinished

ENTRY = np.dtype([("id", "i8"), ("table", "i4"), ("row", "i4"), ("score", "i4"), ("stamp", "i4")])
STORED = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(np.uint16)}
UNBOUNDED = 2**31 - 1


@dataclass
class Index:
    """Entries of S·W ways, then of the stash; entry S·W + k is stash place k.

    A way whose tag is 0 is free, whatever its entry says; so are stash places from `stashed` on.
    """

    buckets: int
    entries: np.ndarray  # ENTRY [S·W + STASH]
    tags: np.ndarray  # uint8 [S·W], a byte of each key's hash
    numbers: np.ndarray  # int32 [S], -1 between placements: buckets of a chunk, renumbered
    stashed: int = 0

    @property
    def ways(self) -> int:
        return self.buckets * placement.WAYS

    @property
    def tag_words(self) -> np.ndarray:
        """The tags eight at a time, uint64 [S·W / 8]."""
        return self.tags.view(np.uint64)


def empty_index(buckets: int) -> Index:
    ways = buckets * placement.WAYS
    return Index(
        buckets,
        zeroed((ways + placement.STASH,), ENTRY),
        zeroed((ways,), np.dtype(np.uint8)),
        np.full(buckets, -1, np.int32),
    )


@dataclass
class TableState:
    spec: TableSpec
    index: Index
    weights: np.ndarray  # [R, D] float32, or uint16 bits of bfloat16
    uids: np.ndarray  # uint32 [T]
    ranks: np.ndarray  # int32 [T], place of each uid among all
    quantiles: np.ndarray  # int32, flat
    free: np.ndarray  # int32 stack of erased rows, its top last
    by_table: np.ndarray  # int64 [T], keys of each logical table; replaced, never written into
    slots: dict[str, np.ndarray] = field(default_factory=dict)  # float32 [R, width]
    slot_specs: dict[str, SlotSpec] = field(default_factory=dict)
    next_row: int = 0
    used: int = 0
    counters: Counters = field(default_factory=Counters)
    unfinished: Unfinished | None = None
    copying: list[RowsNow] = field(default_factory=list)

    @property
    def rows_left(self) -> int:
        """Rows that new ids may still take without displacing one."""
        limit = UNBOUNDED if self.spec.max_rows is None else self.spec.max_rows
        return len(self.free) + limit - self.next_row


def create_state(spec: TableSpec) -> TableState:
    if torch.device(spec.device).type != "cpu":
        raise BackendUnavailable(
            f"the numba backend keeps tables in host memory: device must be 'cpu'; got {spec.device!r}. "
            "Use RECIS_BACKEND=pallas, jax or torch for a table on a device."
        )
    uids = np.array(spec.uids, np.uint32)
    rows = min(spec.rows, spec.max_rows or spec.rows)
    return TableState(
        spec,
        empty_index(spec.buckets),
        zeroed((rows, spec.dim), STORED[spec.dtype]),
        uids,
        np.argsort(np.argsort(uids)).astype(np.int32),
        np.array(spec.distribution.quantiles, np.int32).reshape(-1),
        np.zeros(0, np.int32),
        np.zeros(len(uids), np.int64),
    )


def count_tables(state: TableState, tables: np.ndarray, by: int) -> None:
    """Count inserted (by=1) or removed (by=-1) keys by their tables' ordinals."""
    if len(state.uids) > 1:
        state.by_table = state.by_table + by * np.bincount(tables, minlength=len(state.uids))
    else:
        state.by_table = state.by_table + by * len(tables)


def add_slots(state: TableState, slots: tuple[SlotSpec, ...]) -> None:
    arrays, specs = dict(state.slots), dict(state.slot_specs)
    for slot in new_slots(specs, slots):
        specs[slot.name] = slot
        arrays[slot.name] = zeroed((len(state.weights), slot.width), np.dtype(np.float32))
        if slot.initial != 0:
            arrays[slot.name][: state.next_row] = slot.initial
    state.slots, state.slot_specs = arrays, specs


def take_rows(state: TableState, count: int) -> np.ndarray:
    """Pop `count` rows, int32: erased ones from the top of their stack, then fresh ones."""
    reused = min(count, len(state.free))
    popped = state.free[len(state.free) - reused :][::-1]
    state.free = state.free[: len(state.free) - reused]
    fresh = np.arange(state.next_row, state.next_row + count - reused, dtype=np.int32)
    state.next_row += count - reused
    return np.concatenate([popped, fresh])


def make_room(state: TableState, rows: int) -> None:
    """Grow weights and slots to at least `rows`, doubling, one array at a time: only one is ever held twice.

    A growth that is broken off needs no undoing: an array with more room than the others does no harm, and the others
    grow at the next call.
    """
    if rows > len(state.weights):
        state.weights = _grown(state.weights, rows, state.spec.max_rows)
    for name, array in state.slots.items():
        if rows > len(array):
            state.slots[name] = _grown(array, rows, state.spec.max_rows)


def _grown(array: np.ndarray, rows: int, most: int | None) -> np.ndarray:
    capacity = len(array)
    while capacity < rows:
        capacity *= 2
    capacity = min(capacity, most or capacity)
    grown = zeroed((capacity, array.shape[1]), array.dtype)
    grown[: len(array)] = array
    return grown


def check_highest(rows: np.ndarray, *arrays: np.ndarray) -> None:
    """For loops that skip all row numbers below 0."""
    if len(rows) and np.maximum.reduce(rows) >= min(map(len, arrays)):
        raise ValueError(f"row numbers must be below {min(map(len, arrays))}, the table's rows; got {rows.max()}.")


def check_numbers(rows: np.ndarray, *arrays: np.ndarray) -> None:
    """For compiled loops check no index. rows: int32 [n] of each of the arrays, -1 for none."""
    end, low, high = min(map(len, arrays)), int(rows.min(initial=-1)), int(rows.max(initial=-1))
    if high >= end or low < -1:
        raise ValueError(f"row numbers must be in [-1, {end}); got {low} to {high}.")


def as_arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)


def as_weights(stored: np.ndarray) -> Tensor:
    """Stored weights as a torch tensor of the table's dtype."""
    if stored.dtype == np.uint16:
        return torch.from_numpy(stored.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(stored)


def as_stored(weights: Tensor) -> np.ndarray:
    """The reverse of `as_weights`."""
    weights = weights.detach().contiguous()
    if weights.dtype == torch.bfloat16:
        return weights.view(torch.int16).numpy().view(np.uint16)
    return weights.numpy()
