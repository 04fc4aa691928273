"""Forgetting: rows that a table's FilterHook names leave it, from whichever tier they are in.

Sizes: n rows, k of them, D dim.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from recis_core.backends.records import Marks
from recis_core.table.eviction.filters import TTL, View, filter_of

if TYPE_CHECKING:
    from recis_core.options.filter_hook import FilterHook
    from recis_core.table.physical import PhysicalTable


class Eviction:
    """Of one physical table.

    Args:
      spread: over how many ranks each named table's rows are.
    """

    def __init__(self, hook: FilterHook, spread: Sequence[int]) -> None:
        self.hook, self.spread, self.filter = hook, spread, filter_of(hook)
        self.evicted: Counter[int] = Counter()  # by ordinal, so far

    def run(self, table: PhysicalTable, ordinals: Iterable[int]) -> dict[int, int]:
        """Evict from these named tables, all or none; how many rows of each went."""
        gone: dict[int, int] | None = None
        try:
            gone = self._run(table, ordinals)
        finally:
            self.filter.chose(gone=gone is not None)
        return gone

    def _run(self, table: PhysicalTable, ordinals: Iterable[int]) -> dict[int, int]:
        marks, chosen = table.storage.marks(), {}
        for ordinal in ordinals:
            mine = _part(marks, marks.tables == ordinal)
            chosen[ordinal] = _part(mine, self._choose(table, mine, ordinal))
        gone = {ordinal: len(rows.ids) for ordinal, rows in chosen.items()}
        counts = self.evicted + Counter(gone)
        if any(gone.values()):
            ids, ordinals_ = (torch.cat([getattr(rows, n) for rows in chosen.values()]) for n in ("ids", "tables"))
            table.forget(ids, ordinals_)
        self.evicted = counts
        return gone

    def _choose(self, table: PhysicalTable, marks: Marks, ordinal: int) -> Tensor:
        """bool [n]: rows that go."""
        if not len(marks.ids):
            return torch.zeros(0, dtype=torch.bool)

        def weights(at: Tensor) -> Tensor:
            rows, ids, tables = (x[at].to(table.device) for x in (marks.rows, marks.ids, marks.tables))
            return table.storage.gather(rows, ids, tables).cpu()

        pinned = marks.stamps >= table.clock.pinned_from
        view = View(marks, table.step, pinned, weights, self.spread[ordinal], ordinal)
        return self.filter.choose(view) & ~pinned

    def stats(self, ordinal: int) -> dict[str, int]:
        return {f"evicted_by_{self.hook.cause}": self.evicted[ordinal]}

    def state(self) -> dict[str, Any]:
        return {"hook": str(self.hook), "filter": self.filter.state()}

    def load_state(self, state: dict[str, Any], *, moved: bool = False) -> None:
        """Go on from what the same hook remembers; another one begins anew.

        moved: the state is of other ranks or another coalescing, and what is remembered by row is left out.
        """
        if state["hook"] == str(self.hook) and (not moved or isinstance(self.filter, TTL)):
            self.filter.load_state(state["filter"])


def _part(marks: Marks, at: Tensor) -> Marks:
    return Marks(*(x[at] for x in (marks.ids, marks.tables, marks.rows, marks.scores, marks.stamps)))
