"""Counts the occurrences of ids without a row, by key, for as many keys as fit.

Sizes: U unique keys.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from recis_core.backends import Clock, LookupMode, SlotSpec, TableSpec, get, placement
from recis_core.backends.errors import TableFull
from recis_core.backends.records import Snapshot
from recis_core.table.plain_storage import PlainStorage

SLOT = "occurrences"
FIRST_ROWS = 1024
PART = 8  # a call is counted in parts of 1/PART of the capacity, so that no part displaces its own keys


class ExactCounter:
    """A table of one slot on the CPU, with any backend. When it is full, the key seen longest ago is displaced.

    Args:
      capacity: least number of keys; rounded up to a full index.
    """

    def __init__(self, uids: tuple[int, ...], capacity: int) -> None:
        num, den = placement.MAX_LOAD
        self.capacity = placement.initial_buckets(capacity) * placement.WAYS * num // den
        self.spec = TableSpec(1, uids, rows=min(FIRST_ROWS, capacity), max_rows=self.capacity, evict=True)
        self._empty()

    def _empty(self) -> None:
        self._table = PlainStorage(get("numba"), self.spec, (SlotSpec(SLOT, 1),))
        self._calls = self.overflow = 0

    def add(self, ids: Tensor, ordinals: Tensor, counts: Tensor) -> Tensor:
        """int64 [U]: occurrences of unique keys so far, with `counts`."""
        part = max(1, self.capacity // PART)
        parts = zip(ids.split(part), ordinals.split(part), counts.split(part), strict=True)
        return torch.cat([self._add(*each) for each in parts])

    def _add(self, ids: Tensor, ordinals: Tensor, counts: Tensor) -> Tensor:
        self._calls += 1
        rows = self._insert(ids, ordinals)
        seen = self._table.read_slot(SLOT, rows)[:, 0].long() + counts
        self._table.write_slot(SLOT, rows, seen[:, None].float())
        return seen

    def _insert(self, ids: Tensor, ordinals: Tensor) -> Tensor:
        clock = Clock(self._calls, self._calls)
        try:
            rows, lost = self._table.lookup(ids, ordinals, mode=LookupMode(), clock=clock)
        except TableFull as error:
            raise TableFull(
                f"the counter of AdmitHook('Frequency') holds {self.capacity} ids and found no place for {len(ids)} "
                "more. Raise its capacity, or use counter='bloom'."
            ) from error
        self.overflow += 0 if lost is None else len(lost.ids)
        return rows

    def forget(self, ids: Tensor, ordinals: Tensor) -> None:
        """Drop keys; unknown keys are ignored."""
        if len(ids):
            self._table.erase(ids, ordinals)

    def clear(self, ordinals: Tensor) -> None:
        """Drop all keys of these logical tables."""
        kept = self._table.marks()
        goes = torch.isin(kept.tables, ordinals)
        self.forget(kept.ids[goes], kept.tables[goes])

    def __len__(self) -> int:
        return self._table.counters().rows

    def state(self) -> dict[str, Any]:
        """For saved states; other ranks can take keys from it."""
        kept = dict(vars(self._table.export()))
        return {"kind": "exact", "calls": self._calls, "overflow": self.overflow, "keys": kept}

    def load_state(self, state: dict[str, Any]) -> None:
        fields = {f.name for f in dataclasses.fields(Snapshot)}
        kept = Snapshot(**{name: value for name, value in state["keys"].items() if name in fields})
        self._empty()
        self._table.restore(kept)
        self._calls, self.overflow = state["calls"], state["overflow"]

    def take(self, ids: Tensor, ordinals: Tensor, counts: Tensor) -> None:
        """Add keys of another counter's state, in the order they were last seen."""
        if len(ids):
            self.add(ids, ordinals, counts)
