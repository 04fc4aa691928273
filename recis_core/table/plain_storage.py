"""A backend bound to its state: all rows are on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recis_core.backends import (
    Backend,
    Clock,
    Counters,
    LookupCall,
    LookupMode,
    SlotSpec,
    Snapshot,
    TableSpec,
    UpdateRule,
)
from recis_core.backends.records import Evicted, Marks, Partition
from recis_core.table.content import Content, CopiedWhenNeeded, Fresh, InPlace, of_tables

FIND = LookupMode(insert=False, touch=False)


class PlainStorage:
    """Each stage passes the state to the backend, and keeps the state that the backend returns."""

    gate = tiers = None

    def __init__(self, backend: Backend, spec: TableSpec, slots: tuple[SlotSpec, ...] = (), room: int = 0) -> None:
        """room: rows to make room for at once, if that is more than the spec says."""
        self.backend, self.spec = backend, spec
        self.state = backend.add_slots(backend.create(replace(spec, rows=max(spec.rows, room))), slots)
        # Stages without a state are the backend's methods, without a call in between.
        self.embed_grad, self.combine, self.measure = backend.embed_grad, backend.combine, backend.measure
        self.read_gradient, self.without = backend.read_gradient, backend.without

    def steps(self) -> int:
        return 0

    def content(self, ordinals: set[int], slots: tuple[SlotSpec, ...], room: int = 0) -> Content:
        """Rows of other logical tables stay in place, unless these tables have rows and get new ones: then all is copied."""
        empty = partial(PlainStorage, self.backend, self.spec, slots, room)
        if len(ordinals) == len(self.spec.uids):
            return Fresh(empty(), self.counters().rows)
        marks = self.marks()
        theirs = of_tables(marks, ordinals)
        if bool(theirs.all()):
            return Fresh(empty(), len(theirs))
        device = self.spec.device
        in_place = InPlace(self, (marks.ids[theirs].to(device), marks.tables[theirs].to(device)))
        return CopiedWhenNeeded(self, empty, ordinals, in_place) if bool(theirs.any()) else in_place

    def add_slots(self, slots: tuple[SlotSpec, ...]) -> None:
        self.state = self.backend.add_slots(self.state, slots)

    def partition(self, ids: Tensor, tables: Tensor) -> Partition:
        return self.backend.partition(self.state, ids, tables)

    def lookup(
        self, ids: Tensor, tables: Tensor, *, mode: LookupMode, clock: Clock, counts: Tensor | None = None
    ) -> tuple[Tensor, Evicted | None]:
        self.state, rows, evicted = self.backend.lookup(self.state, ids, tables, mode=mode, clock=clock)
        return rows, evicted

    def gather(self, rows: Tensor, ids: Tensor, tables: Tensor, *, unknown: str = "zeros") -> Tensor:
        return self.backend.gather(self.state, rows, ids, tables, unknown=unknown)

    def embed(
        self, call: LookupCall, *, mode: LookupMode, clock: Clock, weights_need_grad: tuple[bool, ...]
    ) -> tuple[list[Tensor], Any, Evicted | None]:
        self.state, outputs, saved, evicted = self.backend.embed(
            self.state, call, mode=mode, clock=clock, weights_need_grad=weights_need_grad
        )
        return outputs, saved, evicted

    def gradient(self, ids: Tensor, tables: Tensor, rows: Tensor, values: Tensor, counts: Tensor | None = None) -> Any:
        return self.backend.gradient(self.state, ids, tables, rows, values, counts)

    def update(self, gradient: Any, rule: UpdateRule, *, hyper: np.ndarray, factor: float, t: tuple[int, ...]) -> None:
        self.state = self.backend.update(self.state, gradient, rule, hyper=hyper, factor=factor, t=t)

    def read_rows(self, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.backend.read_rows(self.state, rows)

    def write_rows(self, rows: Tensor, weights: Tensor, slots: dict[str, Tensor]) -> None:
        self.state = self.backend.write_rows(self.state, rows, weights, slots)

    def read_slot(self, name: str, rows: Tensor) -> Tensor:
        return self.backend.read_slot(self.state, name, rows)

    def write_slot(self, name: str, rows: Tensor, values: Tensor) -> None:
        self.state = self.backend.write_slot(self.state, name, rows, values)

    def erase(self, ids: Tensor, tables: Tensor) -> None:
        self.state = self.backend.erase(self.state, ids, tables)

    def marks(self) -> Marks:
        return self.backend.marks(self.state)

    def pieces(self, ordinal: int, most: int) -> Iterator[tuple[Tensor, Tensor]]:
        place = 0
        while place >= 0:
            ids, tables, rows, place = self.backend.keys_from(self.state, place, most)
            mine = tables == ordinal
            yield ids[mine], rows[mine]

    def layout(self) -> tuple[int, ...]:
        counted = self.counters()
        return counted.inserted, counted.evicted, counted.erased, counted.buckets

    def rows_by_table(self) -> tuple[int, ...]:
        return self.backend.rows_by_table(self.state)

    def export(self) -> Snapshot:
        return self.backend.export(self.state)

    def snapshots(self, most: int) -> Iterator[Snapshot]:
        return self.backend.export_parts(self.state, most)

    def snapshots_later(self) -> Iterator[Snapshot]:
        """All rows as they are at this call; the iterator may go on later, on another thread."""
        return _without_placement([self.backend.export_later(self.state)])

    def rows_of(self, ids: Tensor, tables: Tensor, *, marks: bool) -> Snapshot:
        at, _ = self.lookup(ids, tables, mode=FIND, clock=Clock())
        known = at >= 0
        weights, slots = self.read_rows(at[known])
        found = Snapshot(ids[known].cpu(), tables[known].cpu(), weights.cpu(), {n: v.cpu() for n, v in slots.items()})
        if marks:
            kept = self.marks()
            order = kept.rows.argsort()
            place = order[torch.searchsorted(kept.rows[order], at[known].cpu())]
            found.scores, found.stamps = kept.scores[place], kept.stamps[place]
        return found

    def restore(self, snapshot: Snapshot) -> None:
        self.state = self.backend.restore(self.state, snapshot)

    def counters(self) -> Counters:
        return self.backend.counters(self.state)

    def stats(self) -> dict[str, int]:
        return {}


def _without_placement(copies: list[Callable[[], Snapshot]]) -> Iterator[Snapshot]:
    """Takes the copies out of the list, so that each is freed once it is exported."""
    while copies:
        whole = copies.pop()()
        yield Snapshot(whole.ids, whole.tables, whole.weights, whole.slots, scores=whole.scores, stamps=whole.stamps)
