"""Where each key's row is on disk: compiled open addressing, a byte a slot in memory, entries in memory or in a file.

The segments' keys hold the same, and a store that is opened again builds its index from them.

Sizes: N keys of a call, P partitions, each of G groups of 8 slots at most.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from recis_core.backends.errors import CorruptStorage, TableFull
from recis_core.backends.tier_loops import disk_index
from recis_core.backends.tier_loops.disk_index import ENTRY, GROUP, G, P, bytes_for
from recis_core.table.disk.entries import Entries
from recis_core.table.disk.mapping import Mapping

FIRST_GROUPS = 16
FULL = 0.8  # of a partition's slots; it grows by a quarter, so there are 1.1 to 1.6 a row
FULLEST = 0.9  # below this no look for which of a call's keys are new


class DiskIndex:
    """Not for two threads at once. `live` counts, by segment, the rows that keys lead to."""

    def __init__(self, directory: Path, rows: int, memory: int) -> None:
        """rows: that are expected; memory: bytes of entries beyond which they go to disk."""
        self._path = directory / "index"
        self._words_map = Mapping(P * G * GROUP)
        self._words_map.advise_large_pages()
        self._words = self._words_map.array(np.dtype(np.uint64))
        self._entries = Entries(self._path, P * G * GROUP, memory)
        self._groups = np.zeros(P, np.int64)
        self._counts = np.zeros((P, 2), np.int64)
        self.live = np.zeros(16, np.int64)
        try:
            for p in range(P):
                self._regroup(p, max(FIRST_GROUPS, _groups_for(rows)))
        except BaseException:
            self._entries.close()
            raise

    def __len__(self) -> int:
        return int(self.live.sum())

    @property
    def memory_bytes(self) -> int:
        words = bytes_for(int(self._groups.max())) // ENTRY.itemsize
        return words + self._entries.memory_bytes + self.live.nbytes

    @property
    def disk_bytes(self) -> int:
        return self._entries.disk_bytes

    def find(self, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        """int64 [N], segment << 32 | row, or -1."""
        locations = np.empty(len(ids), np.int64)
        disk_index.find_keys(ids, tables, self._words, self._groups, self._entries.array, locations)
        return locations

    def reserve(self, keys: np.ndarray, segments: int) -> None:
        """Make room for KEY [N], in segments of numbers below `segments`.

        Raises:
          StorageFull: every key is found as before.
        """
        if segments > len(self.live):
            self.live = np.append(self.live, np.zeros(max(segments, 16), np.int64))
        if self._fuller_than(FULLEST, _count(keys)).size:
            tables = np.where(keys["table"] < 0, ~keys["table"], keys["table"])
            locations = self.find(keys["id"].copy(), tables)
            coming = _count(keys[locations < 0])
            for p in self._fuller_than(FULL, coming):
                self._grow(int(p), int(coming[p]))

    def _fuller_than(self, share: float, coming: np.ndarray) -> np.ndarray:
        """Partitions."""
        return np.flatnonzero(self._counts[:, 0] + coming > self._groups * (GROUP * share))

    def _grow(self, p: int, coming: int) -> None:
        """Drop erased slots; a partition that stays nearly full gets larger."""
        groups, needed = int(self._groups[p]), int(self._counts[p, 1]) + coming
        if needed > groups * GROUP * FULL * 0.9:
            groups += max(groups // 4, 1)
        while needed > groups * GROUP * FULL:
            groups += max(groups // 4, 1)
        self._regroup(p, groups)

    def _regroup(self, p: int, groups: int) -> None:
        if groups > G:
            raise TableFull(
                f"{self._path} has room for about {int(P * G * GROUP * FULL):,} rows; more were wanted. "
                "Shard the table over more ranks."
            )
        self._entries.grow(bytes_for(groups))
        disk_index.regroup(p, groups, self._words, self._groups, self._counts, self._entries.array)

    def apply(self, keys: np.ndarray, segment: int, first: int) -> None:
        """Index KEY [N], of rows from `first` on in a segment. Reserve before. Doing it twice changes nothing."""
        entries = self._entries.array
        words, groups, counts = self._words, self._groups, self._counts
        if not disk_index.apply_keys(keys, segment, first, words, groups, counts, entries, self.live):
            raise CorruptStorage(
                f"{self._path} has no place for a key that it had made room for. What was flushed is whole: close, and open "
                "the directory again. Memory was written from outside, or this is a bug: please report it."
            )

    def to_disk(self) -> None:
        """Move the entries from memory to a file.

        Raises:
          StorageFull: they stay.
        """
        self._entries.to_disk()

    def let_go(self) -> None:
        """Unmap the file's pages; the page cache keeps them."""
        self._entries.let_go()

    def close(self) -> None:
        """Give memory and disk space back now, not when this object goes."""
        self._entries.close()
        for name in ("_words", "_entries", "_words_map"):
            self.__dict__.pop(name, None)


def _groups_for(rows: int) -> int:
    """Groups of a partition when `rows` keys are spread over P; the fullest has a few deviations more than the mean."""
    mean = rows / P
    return math.ceil((mean + 4 * math.sqrt(mean)) / (GROUP * FULL))


def _count(keys: np.ndarray) -> np.ndarray:
    """Keys of each partition, int64 [P]."""
    counts = np.zeros(P, np.int64)
    disk_index.count_keys(keys, counts)
    return counts
