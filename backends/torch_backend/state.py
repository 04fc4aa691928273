"""A table in torch tensors: the index with its stash behind it, the rows, the free rows.

Sizes: S buckets, W ways, R rows, D dim.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from recis_core.backends import placement
from recis_core.backends.row_checks import new_slots
from recis_core.backends.rows_now import RowsNow
from recis_core.backends.spec import Counters, SlotSpec, TableSpec
from recis_core.backends.whole import Undo, Unfinished, whole

DTYPE = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FIELDS = ("ids", "uids", "rows", "scores", "stamps")
EMPTY = {"ids": 0, "uids": 0, "rows": -1, "scores": 0, "stamps": -1}


@dataclass
class Index:
    """Entries of S·W ways, then of the stash; entry S·W + k is stash place k. rows < 0 means free."""

    buckets: int
    ids: Tensor  # int64
    uids: Tensor  # int64, uint32 values
    rows: Tensor  # int32
    scores: Tensor  # int32
    stamps: Tensor  # int32
    stashed: int = 0

    @property
    def ways(self) -> int:
        return self.buckets * placement.WAYS

    def read(self, at: Tensor) -> dict[str, Tensor]:
        return {name: getattr(self, name)[at] for name in FIELDS}

    def write(self, undo: Undo | None, at: Tensor, **entries: Tensor | int) -> None:
        """Overwrite fields of entries. undo: None for a new index, not yet the table's."""
        for name, value in entries.items():
            overwrite(undo, getattr(self, name), at, value)


def overwrite(undo: Undo | None, array: Tensor, at: Tensor, values: Tensor | float, old: Tensor | None = None) -> None:
    """array[at] = values, int64 [n]. old: array[at], where the caller has it."""
    if undo is not None:
        undo.note(put, array, at, array[at] if old is None else old)
    put(array, at, values)


def put(array: Tensor, at: Tensor, values: Tensor | float) -> None:
    array[at] = values


def empty_index(buckets: int, device: torch.device) -> Index:
    size = buckets * placement.WAYS + placement.STASH
    kinds = {"ids": torch.int64, "uids": torch.int64}
    make = {n: torch.full((size,), EMPTY[n], dtype=kinds.get(n, torch.int32), device=device) for n in FIELDS}
    return Index(buckets, **make)  # type: ignore[arg-type]


@dataclass
class TableState:
    spec: TableSpec
    index: Index
    weights: Tensor  # [R, D]
    free: Tensor  # int32 stack of erased rows, its top last
    by_table: Tensor  # int64 [T], keys of each logical table; replaced, never written into
    slots: dict[str, Tensor] = field(default_factory=dict)  # float32 [R, width]
    slot_specs: dict[str, SlotSpec] = field(default_factory=dict)
    next_row: int = 0
    used: int = 0
    counters: Counters = field(default_factory=Counters)
    unfinished: Unfinished | None = None
    copying: list[RowsNow] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        return self.weights.device

    @property
    def rows_left(self) -> int:
        """Rows that new ids may still take without displacing one."""
        limit = self.spec.max_rows if self.spec.max_rows is not None else 2**31 - 1
        return len(self.free) + limit - self.next_row

    def uids(self, tables: Tensor) -> Tensor:
        """Ordinals to uids, int64."""
        return torch.tensor(self.spec.uids, dtype=torch.int64, device=tables.device)[tables.long()]


@contextmanager
def outside_inference() -> Iterator[None]:
    """A table's tensors are made and written outside inference mode, for training cannot use that mode's tensors."""
    if not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield


@contextmanager
def changing(state: TableState, rows: Any = None) -> Iterator[Undo]:
    """As `whole`, outside inference mode."""
    with outside_inference(), whole(state, rows) as undo:
        yield undo


def create_state(spec: TableSpec) -> TableState:
    device = torch.device(spec.device)
    rows = min(spec.rows, spec.max_rows or spec.rows)
    return TableState(
        spec,
        empty_index(spec.buckets, device),
        torch.zeros(rows, spec.dim, dtype=DTYPE[spec.dtype], device=device),
        torch.zeros(0, dtype=torch.int32, device=device),
        torch.zeros(len(spec.uids), dtype=torch.int64, device=device),
    )


def ordinals(state: TableState, uids: Tensor) -> Tensor:
    """uids to ordinals, int32."""
    known = torch.tensor(state.spec.uids, dtype=torch.int64, device=uids.device)
    by_uid = torch.argsort(known)
    return by_uid[torch.searchsorted(known[by_uid], uids)].to(torch.int32)


def count_tables(state: TableState, uids: Tensor, by: int) -> None:
    """Count inserted (by=1) or removed (by=-1) keys by their tables."""
    tables = len(state.spec.uids)
    counts = torch.bincount(ordinals(state, uids), minlength=tables) if tables > 1 else len(uids)
    state.by_table = state.by_table + by * counts


def take_rows(state: TableState, count: int) -> Tensor:
    """Pop `count` rows, int32: erased ones from the top of their stack, then fresh ones."""
    reused = min(count, len(state.free))
    popped = state.free[len(state.free) - reused :].flip(0)
    state.free = state.free[: len(state.free) - reused]
    fresh = torch.arange(count - reused, dtype=torch.int32, device=state.device) + state.next_row
    state.next_row += count - reused
    make_room(state, state.next_row)
    return torch.cat([popped, fresh])


def make_room(state: TableState, rows: int) -> None:
    """Grow weights and slots to at least `rows`, doubling, one array at a time: only one is ever held twice.

    A growth that is broken off needs no undoing: an array with more room than the others does no harm, and the others
    grow at the next call.
    """
    if rows > len(state.weights):
        state.weights = _grown(state.weights, rows)
    for name, array in state.slots.items():
        if rows > len(array):
            state.slots[name] = _grown(array, rows)


def _grown(array: Tensor, rows: int) -> Tensor:
    capacity = len(array)
    while capacity < rows:
        capacity *= 2
    grown = array.new_zeros(capacity, array.shape[1])
    grown[: len(array)] = array
    return grown


def add_slots(state: TableState, slots: tuple[SlotSpec, ...]) -> None:
    arrays, specs = dict(state.slots), dict(state.slot_specs)
    for slot in new_slots(specs, slots):
        specs[slot.name] = slot
        shape = (len(state.weights), slot.width)
        arrays[slot.name] = torch.full(shape, slot.initial, dtype=torch.float32, device=state.device)
    state.slots, state.slot_specs = arrays, specs
