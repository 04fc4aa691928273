"""Uses of rows below the device that are not written into the rows' marks yet.

A row that is only read is not written again for its use. The use waits here, about 80 bytes a row, until the row is written
anyway, or until so many wait that all are written.

Sizes: n keys of a call, at most one of each.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recis_core.backends.tier_loops.columns import clear_rows, note_uses
from recis_core.table.tiers.key_index import FreeIndex
from recis_core.table.tiers.row_format import COUNTED

NOTHING = -1  # instead of a step: nothing waits for the row
COLUMNS = {
    "used": (np.int32, NOTHING),  # the last step that used the row
    "uses": (np.int32, 0),  # more than its marks have
    "score": (np.float64, np.nan),  # NaN: the score in its marks
}
AT_ONCE = 1 << 16


class DeferredMarks:
    """Of one table. Adding and dropping are each one step.

    waiting: rows whose marks lack uses; rows: those that take room here. added: how often uses were added.
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
        """Rows were used, `uses` times, at last in step `used`. scores: float64 [n], or None to keep them."""
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
        """Add what waits to the marks [n] of these rows."""
        which, rows = self._find(ids, tables)
        at = self._index.at
        marks["used"][which] = at["used"][rows]
        scores = at["score"][rows]
        marks["score"][which] = np.where(np.isnan(scores), marks["score"][which], scores)
        if marks.dtype == COUNTED:
            marks["uses"][which] += at["uses"][rows]

    def drop(self, ids: np.ndarray, tables: np.ndarray) -> None:
        """Forget rows whose marks were written, or that went."""
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
        """(ids, tables) of all rows that wait, in parts; each part may be dropped before the next is taken."""
        index = self._index
        rows = np.flatnonzero(index.at["here"] & (index.at["used"] != NOTHING))
        for beg in range(0, len(rows), AT_ONCE):
            yield index.keys(rows[beg : beg + AT_ONCE])
