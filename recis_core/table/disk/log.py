"""The segments of a directory, in order: appended at the end, taken out anywhere once compacted.

Sizes: N keys of a call, B bytes of a row.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from backends.errors import TableFull
from backends.numba_backend.disk_index import SEGMENTS
from recis_core.table.disk.index import Index
from recis_core.table.disk.manifest import Committed, Manifest, segment_path
from recis_core.table.disk.rows_view import RowsView
from recis_core.table.disk.segment import Segment, rows_within


class FullSegments(NamedTuple):
    """Those that will not change, in order, and int64 arrays beside."""

    segments: list[Segment]
    numbers: np.ndarray
    rows: np.ndarray
    tombstones: np.ndarray


class Log:
    """Not for two threads at once; `view` may be taken any time."""

    def __init__(
        self, directory: Path, manifest: Manifest, index: Index, segment_bytes: int, mapped_bytes: int
    ) -> None:
        """Open what the manifest names, and tell the index."""
        self._directory, self._index, self._mapped_bytes = directory, index, mapped_bytes
        self._tag, self.row_bytes = manifest.tag, manifest.row_bytes
        self._next_number = manifest.next_number
        self.capacity = rows_within(segment_bytes, manifest.row_bytes)
        self.segments: list[Segment] = []
        self.condemned: list[Segment] = []  # compacted, and in the last manifest still
        self.unsynced: set[Segment] = set()
        self.changed = False  # since the last manifest
        self.bytes_written = 0
        try:
            for committed in manifest.segments:
                self._open(committed)
        except BaseException:
            self.release()
            raise
        self._segments_changed()

    def _open(self, committed: Committed) -> None:
        path = segment_path(self._directory, committed.number)
        segment, keys = Segment.open(path, committed.number, self.row_bytes, committed.rows, committed.digest)
        self.segments.append(segment)
        self._index.reserve(keys)
        self._index.apply(keys, segment.number, 0)

    def append(self, keys: np.ndarray, records: np.ndarray | None) -> None:
        """KEY [N] with records uint8 [N, B + 4], or tombstones; then the index knows.

        Raises:
          StorageFull: nothing is changed.
        """
        self._index.reserve(keys)
        segments = len(self.segments)
        try:
            pieces = self._put(keys, records)
        except BaseException:
            for segment in self.segments[segments:]:
                segment.delete()
            del self.segments[segments:]
            raise
        for segment, beg, end in pieces:
            self._index.apply(keys[beg:end], segment.number, segment.rows)
            segment.accept(keys[beg:end])
            self.unsynced.add(segment)
        self.changed = True
        self.bytes_written += keys.nbytes + (0 if records is None else records.nbytes)
        if len(self.segments) != segments or self.segments[-1].full:
            self._segments_changed()

    def _put(self, keys: np.ndarray, records: np.ndarray | None) -> list[tuple[Segment, int, int]]:
        """(segment, from key, to key), not yet accepted."""
        pieces, beg = [], 0
        segment = self.segments[-1] if self.segments else self._create()
        while beg < len(keys):
            if beg or segment.full:
                segment = self._create()
            end = min(beg + segment.capacity - segment.rows, len(keys))
            segment.put(keys[beg:end], None if records is None else records[beg:end])
            pieces.append((segment, beg, end))
            beg = end
        return pieces

    def _create(self) -> Segment:
        number = self._next_number
        if number >= SEGMENTS:
            raise TableFull(
                f"{self._directory} has had {number - 1:,} segments, and the index numbers no more. Copy its rows, by "
                "scan(), to another directory, with a larger segment_bytes."
            )
        segment = Segment.create(segment_path(self._directory, number), number, self.row_bytes, self.capacity)
        self._next_number += 1
        self.segments.append(segment)
        return segment

    def condemn(self, segment: Segment) -> None:
        """Nothing leads to it any more; its file goes after the next manifest, which does without it."""
        self.segments.remove(segment)
        self.condemned.append(segment)
        self.unsynced.discard(segment)
        self.changed = True
        self._segments_changed()

    def _segments_changed(self) -> None:
        self.view = RowsView.of(self.segments, self._mapped_bytes)
        full = [segment for segment in self.segments if segment.full]
        facts = np.array([(s.number, s.rows, s.tombstones) for s in full], np.int64).reshape(-1, 3)
        self.full = FullSegments(full, *facts.T)

    def manifest(self, numbers: dict[str, int]) -> Manifest:
        segments = [Committed(s.number, s.rows, s.digest) for s in self.segments]
        return Manifest(self._tag, self.row_bytes, self._next_number, segments, len(self._index), numbers)

    def release(self) -> None:
        """Give back files, and maps once nobody reads them."""
        for segment in self.segments + self.condemned:
            segment.release()
        self.segments, self.condemned, self.unsynced = [], [], set()
        self._segments_changed()
