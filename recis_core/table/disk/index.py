"""Where each key's row lies: compiled open addressing, entries in a mapped file, a byte a slot in memory.

The file has no name and goes with the process: what it says, the segments' keys say too, and reading them again costs
less than trusting a file that a crash may have torn. Its space is taken by posix_fallocate before it is
written, so that a full disk is an error of a call and never a signal.

Sizes: N keys of a call, P partitions, each of G groups of 8 slots at most.
"""

from __future__ import annotations

import os
import tempfile
from mmap import MADV_DONTNEED, MADV_RANDOM
from pathlib import Path

import numpy as np

from backends.errors import TableFull
from backends.numba_backend import disk_index
from backends.numba_backend.disk_index import ENTRY, GROUP, G, P, bytes_for
from recis_core.table.disk.disk_space import room_for
from recis_core.table.disk.mapping import Mapping

FIRST_GROUPS = 16
FULL = 0.8  # of a partition's slots; it grows by a half, so memory is 1.1 to 1.9 bytes a row
FULLEST = 0.9  # before it is asked which of a call's keys are new


class Index:
    """Not for two threads at once. `live` counts, by segment, the rows that keys lead to."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "index"
        with room_for(self._path, 0):
            self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115, closed by close()
        try:
            self._words_map = Mapping(P * G * 8)
            self._entries_map = Mapping(P * G * GROUP * ENTRY.itemsize, self._file.fileno(), writable=True)
            self._entries_map.advise(MADV_RANDOM)
            self._words = self._words_map.array(np.dtype(np.uint64))
            self._entries = self._entries_map.array(ENTRY)
            self._groups = np.zeros(P, np.int64)
            self._counts = np.zeros((P, 2), np.int64)
            self.live = np.zeros(16, np.int64)
            self.disk_bytes = 0
            for p in range(P):
                self._regroup(p, FIRST_GROUPS)
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return int(self.live.sum())

    @property
    def memory_bytes(self) -> int:
        return int(self._groups.sum()) * GROUP + self.live.nbytes

    def find(self, ids: np.ndarray, tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(int64 [N] segment << 32 | row, or -1; uint32 [N] the row's check)"""
        locations, checks = np.empty(len(ids), np.int64), np.empty(len(ids), np.uint32)
        disk_index.find_keys(ids, tables, self._words, self._groups, self._entries, locations, checks)
        return locations, checks

    def reserve(self, keys: np.ndarray) -> None:
        """Make room for KEY [N].

        Raises:
          StorageFull: every key is found as before.
        """
        if self._fuller_than(FULLEST, _count(keys)).size:
            tables = np.where(keys["table"] < 0, ~keys["table"], keys["table"])
            locations, _ = self.find(keys["id"].copy(), tables)
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
            groups += max(groups // 2, 1)
        while needed > groups * GROUP * FULL:
            groups += max(groups // 2, 1)
        self._regroup(p, groups)

    def _regroup(self, p: int, groups: int) -> None:
        if groups > G:
            raise TableFull(
                f"{self._path} has room for about {int(P * G * GROUP * FULL):,} rows; more were wanted. "
                "Shard the table over more ranks."
            )
        self._allocate(bytes_for(groups))
        disk_index.regroup(p, groups, self._words, self._groups, self._counts, self._entries)

    def _allocate(self, size: int) -> None:
        if size > self.disk_bytes:
            with room_for(self._path, size - self.disk_bytes):
                os.posix_fallocate(self._file.fileno(), self.disk_bytes, size - self.disk_bytes)
            self.disk_bytes = size

    def apply(self, keys: np.ndarray, segment: int, first: int) -> None:
        """The log says KEY [N] from row `first` of a segment on. Reserve before."""
        if segment >= len(self.live):
            self.live = np.append(self.live, np.zeros(max(segment, 16), np.int64))
        disk_index.apply_keys(keys, segment, first, self._words, self._groups, self._counts, self._entries, self.live)

    def let_go(self) -> None:
        """The page cache keeps what was mapped."""
        self._entries_map.advise(MADV_DONTNEED)

    def close(self) -> None:
        """Memory and the disk's space come back now, not when this object goes."""
        self._file.close()
        del self._words, self._entries, self._words_map, self._entries_map


def _count(keys: np.ndarray) -> np.ndarray:
    """Of each partition, int64 [P]."""
    counts = np.zeros(P, np.int64)
    disk_index.count_keys(keys, counts)
    return counts
