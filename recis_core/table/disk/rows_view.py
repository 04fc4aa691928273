"""Rows read from mapped segments, by several threads: where a page is not in memory, they wait together.

Sizes: N keys of a call, B bytes of a row.
"""

from __future__ import annotations

from collections.abc import Mapping as Dict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from mmap import MADV_DONTNEED
from pathlib import Path

import numpy as np

from backends.errors import CorruptStorage
from backends.numba_backend import disk_rows
from backends.numba_backend.disk_index import KEY
from backends.numba_backend.disk_words import lanes_of
from recis_core.table.disk.mapping import Mapping
from recis_core.table.disk.segment import Segment

CHUNK = 512  # rows below which another thread costs more than it brings


@dataclass(frozen=True)
class RowsView:
    """The segments of a moment. Who holds it may read them, also after they were compacted and their files deleted."""

    bases: np.ndarray  # int64 [segments, 2], addresses of rows and of keys, by segment
    maps: tuple[Mapping, ...]
    paths: Dict[int, Path]

    @classmethod
    def of(cls, segments: list[Segment]) -> RowsView:
        bases = np.zeros((max((s.number for s in segments), default=0) + 1, 2), np.int64)
        for segment in segments:
            bases[segment.number] = segment.base, segment.keys_base
        return cls(bases, tuple(s.map for s in segments), {s.number: s.path for s in segments})

    def let_go(self) -> None:
        """The page cache keeps what was mapped."""
        for map_ in self.maps:
            map_.advise(MADV_DONTNEED)


class RowReader:
    """Moves rows of B bytes between arrays and segments, and checks them."""

    def __init__(self, row_bytes: int, threads: int) -> None:
        self.row_bytes = row_bytes
        self._lanes = lanes_of(row_bytes)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="recis-disk-read")

    def seal(self, ids: np.ndarray, tables: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """KEY [N] of rows, uint8 [N, B]."""
        keys = np.empty(len(ids), KEY)
        disk_rows.seal_keys(ids, tables, rows.reshape(-1), self.row_bytes, self._lanes, keys)
        return keys

    def read(self, view: RowsView, ids: np.ndarray, tables: np.ndarray, locations: np.ndarray) -> np.ndarray:
        """uint8 [N, B], zeros where location is -1.

        Raises:
          CorruptStorage: a row is not what was written.
        """
        rows = np.empty((len(ids), self.row_bytes), np.uint8)
        flat, N = rows.reshape(-1), len(ids)

        def part(beg: int, end: int) -> int:
            return int(
                disk_rows.gather_rows(ids, tables, locations, view.bases, self.row_bytes, self._lanes, beg, end, flat)
            )

        chunk = max(CHUNK, -(-N // self._threads))
        if chunk >= N:
            damaged = [part(0, N)]
        else:
            begs = range(0, N, chunk)
            damaged = list(self._pool.map(part, begs, [min(beg + chunk, N) for beg in begs]))
        for i in damaged:
            if i >= 0:
                raise _damage(view, int(locations[i]), int(ids[i]), int(tables[i]))
        return rows

    def close(self) -> None:
        self._pool.shutdown()


def _damage(view: RowsView, location: int, id_: int, table: int) -> CorruptStorage:
    segment, row = location >> 32, location & 0xFFFFFFFF
    return CorruptStorage(
        f"{view.paths.get(segment, segment)}: row {row}, of id {id_} of table {table}, does not fit its check. "
        "It was damaged; restore the directory from a checkpoint."
    )
