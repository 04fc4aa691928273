"""A storage that chooses which new ids get a row.

Known ids are looked up as in the inner storage. A lookup that inserts and touches passes new ids to the gate: the inner
storage inserts admitted ids; rejected ids get row -1, are read as unknown, and have no gradient. A lookup that inserts
without touching (a recomputed forward, or the arrival of a gradient) inserts none: it finds the rows of the first lookup.

Sizes: N ids, U unique keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from recis_core.backends import Clock, LookupCall, LookupMode, SlotSpec, Snapshot
from recis_core.backends.records import Evicted
from recis_core.table.admission.gate import Gate
from recis_core.table.content import Content
from recis_core.table.storage import Storage

FIND = LookupMode(insert=False, touch=False)


class AdmittingStorage:
    """`inner`, which gets the ids that `gate` admits."""

    def __init__(self, inner: Storage, gate: Gate) -> None:
        self.inner, self.gate = inner, gate
        self.backend, self.tiers = inner.backend, inner.tiers
        # Stages without admission are the inner storage's methods, without a call in between.
        self.steps, self.add_slots, self.partition, self.gather = (
            inner.steps, inner.add_slots, inner.partition, inner.gather,
        )  # fmt: skip
        self.embed_grad, self.combine, self.read_gradient = inner.embed_grad, inner.combine, inner.read_gradient
        self.without, self.measure, self.update = inner.without, inner.measure, inner.update
        self.read_slot, self.write_slot, self.erase = inner.read_slot, inner.write_slot, inner.erase
        self.marks, self.rows_by_table, self.pieces = inner.marks, inner.rows_by_table, inner.pieces
        self.layout, self.export, self.counters = inner.layout, inner.export, inner.counters
        self.snapshots, self.rows_of = inner.snapshots, inner.rows_of

    def snapshots_later(self) -> Iterator[Snapshot]:
        return self.inner.snapshots_later()

    @property
    def state(self) -> Any:
        return self.inner.state

    def lookup(
        self, ids: Tensor, tables: Tensor, *, mode: LookupMode, clock: Clock, counts: Tensor | None = None
    ) -> tuple[Tensor, Evicted | None]:
        if not (mode.insert and mode.touch):
            return self.inner.lookup(ids, tables, mode=_finding(mode), clock=clock)
        kept = self._admitted(ids, tables, torch.ones_like(tables) if counts is None else counts, clock)
        if bool(kept.all()):
            return self.inner.lookup(ids, tables, mode=mode, clock=clock)
        found, evicted = self.inner.lookup(ids[kept], tables[kept], mode=mode, clock=clock)
        rows = torch.full_like(tables, -1)
        rows[kept] = found
        return rows, evicted

    def _admitted(self, ids: Tensor, tables: Tensor, counts: Tensor, clock: Clock) -> Tensor:
        """bool [U]: keys that have a row, or are admitted."""
        rows, _ = self.inner.lookup(ids, tables, mode=FIND, clock=clock)
        kept = rows >= 0
        new = (~kept).nonzero().flatten()
        if len(new):
            chosen = self.gate.admit(ids[new].cpu(), tables[new].cpu(), counts[new].cpu(), clock.step)
            kept[new] = chosen.to(kept.device)
        return kept

    def embed(
        self, call: LookupCall, *, mode: LookupMode, clock: Clock, weights_need_grad: tuple[bool, ...]
    ) -> tuple[list[Tensor], Any, Evicted | None]:
        evicted, inner_mode = None, _finding(mode)
        if mode.insert and mode.touch:
            p = self.inner.partition(call.ids, tables_of(call))
            kept = self._admitted(p.ids, p.tables, p.counts, clock)
            if bool(kept.all()):
                inner_mode = mode
            else:
                inner_mode, known = replace(inner_mode, touch=False), (p.ids[kept], p.tables[kept])
                _, evicted = self.inner.lookup(*known, mode=mode, clock=clock, counts=p.counts[kept])
        outputs, saved, lost = self.inner.embed(call, mode=inner_mode, clock=clock, weights_need_grad=weights_need_grad)
        return outputs, saved, lost if evicted is None else evicted

    def gradient(self, ids: Tensor, tables: Tensor, rows: Tensor, values: Tensor, counts: Tensor | None = None) -> Any:
        """The gradient of the keys that have a row."""
        known = rows >= 0
        if not bool(known.all()):
            ids, tables, rows, values = (x[known] for x in (ids, tables, rows, values))
            counts = None if counts is None else counts[known]
        return self.inner.gradient(ids, tables, rows, values, counts)

    def restore(self, snapshot: Snapshot) -> None:
        """Restore rows; all ids of the snapshot count as admitted."""
        self.gate.policy.forget(snapshot.ids, snapshot.tables)
        self.inner.restore(snapshot)

    def stats(self) -> dict[str, int]:
        return {**self.gate.stats(), **self.inner.stats()}

    def content(self, ordinals: set[int], slots: tuple[SlotSpec, ...], room: int = 0) -> Content:
        return Admitted(self.inner.content(ordinals, slots, room), self.gate)


class Admitted:
    """Content of an AdmittingStorage."""

    def __init__(self, inner: Content, gate: Gate) -> None:
        self.inner, self.gate = inner, gate

    @property
    def gone(self) -> int | None:
        return self.inner.gone

    def add(self, snapshot: Snapshot) -> None:
        self.inner.add(snapshot)

    def put(self) -> Storage:
        return AdmittingStorage(self.inner.put(), self.gate)


def _finding(mode: LookupMode) -> LookupMode:
    """The mode without inserting."""
    return replace(mode, insert=False, learn=mode.learns)


def tables_of(call: LookupCall) -> Tensor:
    """The ordinal of each id, int32 [N]."""
    lengths = torch.tensor(call.lengths, dtype=torch.int64)
    return torch.tensor(call.ordinals, dtype=torch.int32).repeat_interleave(lengths).to(call.ids.device)
