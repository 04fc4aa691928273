"""Where each key's row lies: compiled open addressing, a byte a slot in memory, entries there or in a file.

What it says, the segments' keys say too: opened again, a store reads those.

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
FULLEST = 0.9  # before it is asked which of a call's keys are new


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
        """Erased slots go. If that does not leave a partition some way from full, it gets larger."""
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
        """The log says KEY [N] from row `first` of a segment on. Reserve before. Said twice, it is as said once."""
        entries = self._entries.array
        words, groups, counts = self._words, self._groups, self._counts
        if not disk_index.apply_keys(keys, segment, first, words, groups, counts, entries, self.live):
            raise CorruptStorage(
                f"{self._path} has no place for a key that it had made room for. What was flushed is whole: close, and open "
                "the directory again. Memory was written from outside, or this is a bug: please report it."
            )

    def to_disk(self) -> None:
        """Entries that are in memory go to a file.

        Raises:
          StorageFull: they stay.
        """
        self._entries.to_disk()

    def let_go(self) -> None:
        """The page cache keeps what was mapped of a file."""
        self._entries.let_go()

    def close(self) -> None:
        """Memory and the disk's space come back now, not when this object goes."""
        self._entries.close()
        for name in ("_words", "_entries", "_words_map"):
            self.__dict__.pop(name, None)


def _groups_for(rows: int) -> int:
    """Of a partition, when `rows` keys are spread over P: the fullest has a few deviations more than the mean."""
    mean = rows / P
    return math.ceil((mean + 4 * math.sqrt(mean)) / (GROUP * FULL))


def _count(keys: np.ndarray) -> np.ndarray:
    """Of each partition, int64 [P]."""
    counts = np.zeros(P, np.int64)
    disk_index.count_keys(keys, counts)
    return counts
