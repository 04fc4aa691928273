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

    made: keys that came. gone: those erased or replaced. never: those prefetched for a call that had not come when they left.
    """

    def __init__(self, tables: int) -> None:
        self.made = self.gone = self.never = np.zeros(tables, np.int64)

    def emptied(self) -> KeyCounts:
        """Before rows are counted anew."""
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
        """Keys that came and did not go, prefetched ones among them."""
        return np.asarray(self.made - self.gone - self.never)

    def of(self, tables: np.ndarray) -> np.ndarray:
        """How often each ordinal occurs."""
        return np.bincount(tables, minlength=len(self.made))

    def came(self, tables: np.ndarray) -> None:
        if len(tables):
            self.made = self.made + self.of(tables)

    def on_disk(self, disk: DiskStore) -> np.ndarray:
        """Keys of a disk that was opened. Of a single table no key is read."""
        if len(self.made) == 1 or not len(disk):
            return np.full(len(self.made), len(disk), np.int64)
        return sum((self.of(tables) for tables in disk.scan_tables()), np.zeros(len(self.made), np.int64))
