"""How many keys there are of each logical table that shares a storage.

Sizes: n keys, T logical tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from recis_core.table.disk import DiskStore


class KeyCounts:
    """int64 [T], replaced and never written into.

    made: keys that came. gone: those of them that were erased, or gave way to others. never: those made ahead of a call that
    had not come when they left the device.
    """

    def __init__(self, tables: int) -> None:
        self.made = self.gone = self.never = np.zeros(tables, np.int64)

    def emptied(self) -> KeyCounts:
        """Of a table that the rows went from, which were counted."""
        empty = KeyCounts(len(self.made))
        empty.made = empty.gone = self.gone
        return empty

    def replaced_by(self, rows: np.ndarray) -> KeyCounts:
        """All that came are gone, and so many came."""
        after = KeyCounts(len(self.made))
        after.gone, after.made = self.made, self.made + rows
        return after

    @property
    def rows(self) -> np.ndarray:
        """Rows that came and did not go, and those made ahead of their call."""
        return np.asarray(self.made - self.gone - self.never)

    def of(self, tables: np.ndarray) -> np.ndarray:
        """How often each ordinal occurs."""
        return np.bincount(tables, minlength=len(self.made))

    def came(self, tables: np.ndarray) -> None:
        if len(tables):
            self.made = self.made + self.of(tables)

    def on_disk(self, disk: DiskStore) -> np.ndarray:
        """Of a disk that was opened; that of one table has the number without a look at its keys."""
        if len(self.made) == 1 or not len(disk):
            return np.full(len(self.made), len(disk), np.int64)
        return sum((self.of(tables) for tables in disk.scan_tables()), np.zeros(len(self.made), np.int64))
