"""Uses of rows below the device that their own marks do not tell yet.

A row that is read where it lies is not written again for that. What its marks lack waits here, some 80 bytes a row, until
the row is written anyway, or until so many wait that they are all written.

Sizes: n keys of a call, at most one of each.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recis_core.backends.tier_loops.columns import clear_rows, note_uses
from recis_core.table.tiers.key_index import FreeIndex
from recis_core.table.tiers.row_format import COUNTED

NOTHING = -1  # instead of a step: the row's own marks tell all
COLUMNS = {
    "used": (np.int32, NOTHING),  # the last step that asked for the row
    "uses": (np.int32, 0),  # beside those in its marks
    "score": (np.float64, np.nan),  # NaN: as in its marks
}
AT_ONCE = 1 << 16


class DeferredMarks:
    """Of one table. What is added or dropped, is so in one step.

    waiting: rows whose marks lack something; rows: those that take room here. added: how often some were added.
    """

    def __init__(self) -> None:
        self.added = 0
        self.clear()

    def clear(self) -> None:
        self._index, self.waiting, self.rows = FreeIndex(COLUMNS), 0, 0

    def add(
        self,
        ids: np.ndarray,
        tables: np.ndarray,
        used: np.ndarray | int,
        uses: np.ndarray | int,
        scores: np.ndarray | None,
    ) -> None:
        """Rows were used, `uses` times, at last in step `used`. scores: float64 [n], None for what they were."""
        rows, at, n = self._index.find(ids, tables), self._index.at, len(ids)
        new = np.flatnonzero(rows < 0)
        if len(new):
            rows[new] = self._index.add(ids[new], tables[new])
            self.rows += len(new)
        steps, more = (
            x.astype(np.int32) if isinstance(x, np.ndarray) else np.full(n, x, np.int32) for x in (used, uses)
        )
        scores = np.full(n, np.nan) if scores is None else scores
        noted = at["used"], at["uses"], at["score"], rows, steps, more, scores, NOTHING
        self.waiting, self.added = self.waiting + note_uses(*noted), self.added + 1

    def add_to(self, ids: np.ndarray, tables: np.ndarray, marks: np.ndarray) -> None:
        """Bring marks [n] up to date that lack what waits here."""
        which, rows = self._find(ids, tables)
        at = self._index.at
        marks["used"][which] = at["used"][rows]
        scores = at["score"][rows]
        marks["score"][which] = np.where(np.isnan(scores), marks["score"][which], scores)
        if marks.dtype == COUNTED:
            marks["uses"][which] += at["uses"][rows]

    def drop(self, ids: np.ndarray, tables: np.ndarray) -> None:
        """Rows that tell all by themselves now, or went."""
        rows = self._find(ids, tables)[1]
        self.waiting -= clear_rows(self._index.at["used"], rows, NOTHING)
        if not self.waiting:
            self.clear()

    def waits_for(self, ids: np.ndarray, tables: np.ndarray) -> bool:
        """Whether something waits for any of them."""
        return bool(len(self._find(ids, tables)[0]))

    def _find(self, ids: np.ndarray, tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of the keys wait, and their row numbers here."""
        rows = self._index.find(ids, tables)
        which = np.flatnonzero((rows >= 0) & (self._index.at["used"][rows] != NOTHING))
        return which, rows[which]

    def parts(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(ids, tables) of all that wait, some at a time; each part may be dropped before the next is asked for."""
        index = self._index
        rows = np.flatnonzero(index.at["here"] & (index.at["used"] != NOTHING))
        for beg in range(0, len(rows), AT_ONCE):
            yield index.keys(rows[beg : beg + AT_ONCE])
