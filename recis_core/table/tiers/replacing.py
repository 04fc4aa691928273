"""Rows that replace some of a tiered table's: they are written to new tiers, which then replace the table's.

A kept disk has no second one beside it. There rows are overwritten, and the rest is erased afterwards: an exception between
leaves rows of both, each whole.

Sizes: n keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from recis_core.backends import Snapshot
from recis_core.table.content import without_tables
from recis_core.table.tiers.tier_snapshot import AT_ONCE, export, marks
from recis_core.table.tiers.tiered_state import KeyArrays, TieredState
from recis_core.uninterrupted import as_one

if TYPE_CHECKING:
    from recis_core.table.tiers.tiered_storage import TieredStorage

PARTS = ("device", "counts", "_lower", "disk", "elsewhere")  # of a state: its rows


def content_in_tiers(storage: TieredStorage, ordinals: set[int]) -> Aside | Over:
    """Where rows of these logical tables are to go."""
    return Over(storage, ordinals) if storage.tiers.config.keep else Aside(storage, ordinals)


class Aside:
    """Rows in new tiers; the state has these only while rows are added, under its lock."""

    gone = None

    def __init__(self, storage: TieredStorage, ordinals: set[int]) -> None:
        self.storage, self.state, self.ordinals = storage, storage.tiers, ordinals
        self.alone = len(ordinals) == len(self.state.spec.uids)
        self.rows: dict[str, Any] | None = None

    def add(self, snapshot: Snapshot) -> None:
        self._make()
        for part in _parts(snapshot):
            self._add(part)

    def _make(self) -> None:
        if self.rows is not None:
            return
        with self.state.lock:
            kept = None if self.alone else without_tables(export(self.state.device, self.state.lower), self.ordinals)
            self._begin()
        for part in () if kept is None else _parts(kept):
            self._add(part)

    @as_one
    def _begin(self) -> None:
        before = _rows_of(self.state)
        try:
            self.state.counts = self.state.counts.emptied()
            self.state._build()
            self.rows = _rows_of(self.state)
        finally:
            _show(self.state, before)

    @as_one
    def _add(self, part: Snapshot) -> None:
        with self.state.lock:
            before = _rows_of(self.state)
            try:
                _show(self.state, self.rows or {})
                self.state.restore(part)
                self.state._lower.settle()
            finally:
                self.rows = _rows_of(self.state)
                _show(self.state, before)

    def put(self) -> TieredStorage:
        if self.rows is None and not self.alone:
            _erase(self.state, self.ordinals)
            return self.storage
        self._make()
        with self.state.lock:
            self._swap(self.rows or {})
        return self.storage

    def _swap(self, new: dict[str, Any]) -> None:
        state, disk, before = self.state, self.state.disk, self.state.table_rows
        counts = state.counts.replaced_by(new["counts"].rows)
        state.planned_calls.unstage(state.device)
        self.rows = None
        state.stats.count("erased", before)
        _show(state, {**new, "counts": counts})
        state.renumbered += 1
        disk.let_go()

    def __del__(self) -> None:
        if self.rows is not None:
            self.rows["disk"].let_go()


class Over:
    """Rows written over the table's."""

    gone = None

    def __init__(self, storage: TieredStorage, ordinals: set[int]) -> None:
        self.storage, self.state, self.ordinals = storage, storage.tiers, ordinals
        self.parts: list[Snapshot] = []

    def add(self, snapshot: Snapshot) -> None:
        self.parts.append(snapshot)

    def put(self) -> TieredStorage:
        with self.state.lock:
            for snapshot in self.parts:
                for part in _parts(snapshot):
                    self.state.restore(part)
            _erase(self.state, self.ordinals, self.parts)
        return self.storage


def _erase(state: TieredState, ordinals: set[int], but: list[Snapshot] | tuple[()] = ()) -> None:
    """The rows of these logical tables that are in none of the snapshots."""
    with state.lock:
        ids, tables = _keys(state)
        goes = np.isin(tables, sorted(ordinals))
        for ordinal in ordinals:
            at = np.flatnonzero(tables == ordinal)
            for part in but:
                goes[at] &= ~np.isin(ids[at], part.ids[part.tables == ordinal].numpy())
        if goes.any():
            state.erase(ids[goes], tables[goes])


def _keys(state: TieredState) -> KeyArrays:
    found = marks(state.device, state.lower)[0]
    return found.ids.numpy(), found.tables.numpy()


def _parts(snapshot: Snapshot) -> Iterator[Snapshot]:
    """In parts of as many rows as one section may take."""
    for beg in range(0, len(snapshot.ids), AT_ONCE):
        at = slice(beg, beg + AT_ONCE)
        scores, stamps = (None if marks is None else marks[at] for marks in (snapshot.scores, snapshot.stamps))
        slots = {name: values[at] for name, values in snapshot.slots.items()}
        yield Snapshot(snapshot.ids[at], snapshot.tables[at], snapshot.weights[at], slots, scores=scores, stamps=stamps)


def _rows_of(state: TieredState) -> dict[str, Any]:
    return {name: vars(state)[name] for name in PARTS} | {"disk_path": state.lock.disk}


def _show(state: TieredState, rows: dict[str, Any]) -> None:
    vars(state).update((name, rows[name]) for name in PARTS)
    state.lock.disk = rows["disk_path"]
