"""Chooses the rows to evict by a table's FilterHook, in all tiers.

Sizes: n rows, k of them, D dim.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from recis_core.backends import Clock
from recis_core.backends.records import Marks
from recis_core.table.eviction.filters import TTL, View, filter_of

if TYPE_CHECKING:
    from recis_core.options.filter_hook import FilterHook
    from recis_core.table.storage import Storage


@dataclass(frozen=True)
class Chosen:
    """ids int64 [k] and ordinals int32 [k] of unique keys, and their count by logical table."""

    ids: Tensor
    ordinals: Tensor
    counts: dict[int, int]


class Eviction:
    """One physical table's eviction.

    Args:
      spread: for each named table the number of ranks that hold its rows.
    """

    def __init__(self, hook: FilterHook, spread: Sequence[int]) -> None:
        self.hook, self.spread, self.filter = hook, spread, filter_of(hook)
        self.evicted: Counter[int] = Counter()  # by ordinal, so far

    @contextmanager
    def choosing(
        self, storage: Storage, device: torch.device, ordinals: Iterable[int], clock: Clock
    ) -> Iterator[Chosen]:
        """Chooses rows of these logical tables; the caller erases them inside. If that raises, none count as evicted."""
        done = False
        try:
            marks = storage.marks()
            parts = {ordinal: self._chosen(storage, device, marks, ordinal, clock) for ordinal in ordinals}
            counts = {ordinal: len(rows.ids) for ordinal, rows in parts.items()}
            after = self.evicted + Counter(counts)
            ids, tables = (torch.cat([getattr(rows, name) for rows in parts.values()]) for name in ("ids", "tables"))
            yield Chosen(ids, tables, counts)
            self.evicted, done = after, True
        finally:
            self.filter.chose(gone=done)

    def _chosen(self, storage: Storage, device: torch.device, marks: Marks, ordinal: int, clock: Clock) -> Marks:
        mine = _part(marks, marks.tables == ordinal)
        return _part(mine, self._goes(storage, device, mine, ordinal, clock)) if len(mine.ids) else mine

    def _goes(self, storage: Storage, device: torch.device, marks: Marks, ordinal: int, clock: Clock) -> Tensor:
        def weights(at: Tensor) -> Tensor:
            return storage.gather(*(x[at].to(device) for x in (marks.rows, marks.ids, marks.tables))).cpu()

        pinned = marks.stamps >= clock.pinned_from
        return self.filter.choose(View(marks, clock.step, pinned, weights, self.spread[ordinal], ordinal)) & ~pinned

    def stats(self, ordinal: int) -> dict[str, int]:
        return {f"evicted_by_{self.hook.cause}": self.evicted[ordinal]}

    def state(self) -> dict[str, Any]:
        return {"hook": str(self.hook), "filter": self.filter.state()}

    def load_state(self, state: dict[str, Any], *, moved: bool = False) -> None:
        """Take over the memory of the same hook; another hook's is ignored.

        moved: the state is of other ranks or another coalescing; then memory by row is ignored, too.
        """
        if state["hook"] == str(self.hook) and (not moved or isinstance(self.filter, TTL)):
            self.filter.load_state(state["filter"])


def _part(marks: Marks, at: Tensor) -> Marks:
    return Marks(*(x[at] for x in (marks.ids, marks.tables, marks.rows, marks.scores, marks.stamps)))
