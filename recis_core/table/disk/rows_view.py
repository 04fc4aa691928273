"""Rows read from segments, mapped or not, by several threads. All pages are requested from the disk before any is waited for.

Sizes: N keys of a call, B bytes of a row.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from collections.abc import Mapping as Dict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from mmap import MADV_DONTNEED
from typing import TypeVar

import numpy as np

from recis_core.backends.errors import CorruptStorage
from recis_core.backends.tier_loops import disk_rows
from recis_core.backends.tier_loops.disk_rows import CHECK_BYTES, HANDLE
from recis_core.backends.tier_loops.disk_words import lanes_of
from recis_core.table.disk.mapping import FileHandle, Mapping
from recis_core.table.disk.segment import Segment

T = TypeVar("T")
HANDLES = 512  # of files held open; where there are more, the newest are read by maps
FEW_HANDLES = 64  # likewise, where all are read by maps: to ask how long a file is, and to read it by later
CHUNK = 2048  # rows below which another thread costs more than it brings
ASKED = 256  # likewise, of pages to ask for
WINDOW = 1 << 16  # rows whose pages are asked for at once
SAMPLE = 8  # rows of a window whose pages are looked for, which takes most of a microsecond each


@dataclass(frozen=True)
class RowsView:
    """The segments at one moment. They can be read as long as the view lives, also after they were compacted and deleted."""

    files: np.ndarray  # int64 [segments, 3], by number; see disk_rows
    maps: tuple[Mapping, ...]
    handles: tuple[FileHandle, ...]
    segments: Dict[int, Segment]
    named: bool

    @classmethod
    def of(cls, segments: list[Segment], mapped_bytes: int) -> RowsView:
        """Read by maps while the segments take at most mapped_bytes; else by handles.

        Random reads map a large page for each row, and soon whole files; unmapping costs more than a system call a row.
        """
        few = sum(s.map.length for s in segments) <= mapped_bytes
        handles = _handles(segments, FEW_HANDLES if few else HANDLES)
        files = np.full((max((s.number for s in segments), default=0) + 1, 3), -1, np.int64)
        for segment in segments:
            handle = handles.get(segment.number)
            by = -1 if few or handle is None else handle.number
            files[segment.number] = segment.map.address, by, segment.records_at
        maps, by_number = tuple(s.map for s in segments), {s.number: s for s in segments}
        return cls(files, maps, tuple(handles.values()), by_number, any(s.named for s in segments))

    def check_lengths(self, locations: np.ndarray) -> None:
        """Raise if a file that is read by its map was cut.

        Raises:
          CorruptStorage: one was cut.
        """
        if not self.named:
            return
        for number in np.flatnonzero(np.bincount(locations[locations >= 0] >> 32)).tolist():
            if number in self.segments and self.files[number, HANDLE] < 0:
                self.segments[number].check_length()

    def in_order(self) -> RowsView:
        """A view for sequential reads: by maps."""
        files = self.files.copy()
        files[:, HANDLE] = -1
        return replace(self, files=files)

    def let_go(self) -> None:
        """Unmap all pages; the page cache keeps them."""
        for map_ in self.maps:
            map_.advise(MADV_DONTNEED)


def _handles(segments: list[Segment], most: int) -> dict[int, FileHandle]:
    """By segment's number; at most so many, and a quarter of those that this process may have."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = most if limit == resource.RLIM_INFINITY else min(most, limit // 4)
    found: dict[int, FileHandle] = {}
    for segment in segments[:most]:
        with suppress(OSError, CorruptStorage):  # none are left, or its file is gone: its map does as well
            if (handle := segment.reader()) is not None:
                found[segment.number] = handle
    return found


class RowReader:
    """Moves rows of B bytes between arrays and segments, and checks them."""

    def __init__(self, row_bytes: int, threads: int) -> None:
        self.row_bytes = row_bytes
        self._lanes = lanes_of(row_bytes)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="recis-disk-read")

    def seal(self, ids: np.ndarray, tables: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Records, uint8 [N, B + 4], of rows, uint8 [N, B]."""
        records = np.empty((len(ids), self.row_bytes + CHECK_BYTES), np.uint8)
        disk_rows.seal_rows(ids, tables, rows.reshape(-1), self.row_bytes, self._lanes, records.reshape(-1))
        return records

    def read(self, view: RowsView, ids: np.ndarray, tables: np.ndarray, locations: np.ndarray) -> np.ndarray:
        """uint8 [N, B], zeros where location is -1.

        Raises:
          CorruptStorage: a row is not what was written.
        """
        rows = np.empty((len(ids), self.row_bytes), np.uint8)
        B, lanes, flat, N = self.row_bytes, self._lanes, rows.reshape(-1), len(ids)

        def gather(beg: int, end: int) -> int:
            return int(disk_rows.gather_rows(ids, tables, locations, view.files, B, lanes, beg, end, flat))

        for beg in range(0, N, WINDOW):
            end = min(beg + WINDOW, N)
            view.check_lengths(locations[beg:end])
            self._ask_ahead(view, locations[beg:end])
            for i in self._in_parts(gather, beg, end, CHUNK):
                if i >= 0:
                    raise _damage(view, int(locations[i]), int(ids[i]), int(tables[i]))
        return rows

    def _ask_ahead(self, view: RowsView, locations: np.ndarray) -> None:
        """Request all pages at once if some are not in memory; else each thread would wait for one after the other."""
        step = max(len(locations) // SAMPLE, 32)
        if not disk_rows.any_absent(locations, view.files, self.row_bytes, step):
            return
        ordered = np.sort(locations[locations >= 0])

        def ask(beg: int, end: int) -> None:
            disk_rows.ask_ahead(ordered, view.files, self.row_bytes, beg, end)

        self._in_parts(ask, 0, len(ordered), ASKED)

    def _in_parts(self, call: Callable[[int, int], T], beg: int, end: int, least: int) -> list[T]:
        """Results of call(beg, end), over parts of at least so many rows, shared among threads."""
        size = max(least, -(-(end - beg) // self._threads))
        if size >= end - beg:
            return [call(beg, end)]
        begs = range(beg, end, size)
        return list(self._pool.map(call, begs, [min(i + size, end) for i in begs]))

    def close(self) -> None:
        self._pool.shutdown()


def _damage(view: RowsView, location: int, id_: int, table: int) -> CorruptStorage:
    segment, row = location >> 32, location & 0xFFFFFFFF
    path = view.segments[segment].path if segment in view.segments else segment
    return CorruptStorage(
        f"{path}: row {row}, of id {id_} of table {table}, does not fit its check. "
        "It was damaged; restore the directory from a checkpoint."
    )
