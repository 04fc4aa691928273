"""The segments of a directory, in order: appended at the end, taken out anywhere once compacted.

Sizes: N keys of a call, B bytes of a row.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from recis_core.backends.errors import TableFull
from recis_core.backends.tier_loops.disk_index import SEGMENTS
from recis_core.table.disk.disk_index import DiskIndex
from recis_core.table.disk.manifest import Committed, Manifest, segment_path
from recis_core.table.disk.rows_view import RowsView
from recis_core.table.disk.segment import Segment, rows_within


class FullSegments(NamedTuple):
    """Segments that will not change, in order, and arrays int64 by segment."""

    segments: list[Segment]
    numbers: np.ndarray
    rows: np.ndarray
    tombstones: np.ndarray


class Piece(NamedTuple):
    """What one call put in one segment."""

    segment: Segment
    first: int
    """Its row there."""
    keys: np.ndarray


class Log:
    """Not for two threads at once; `view` may be taken any time."""

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        index: DiskIndex,
        segment_bytes: int,
        mapped_bytes: int,
        *,
        named: bool = True,
    ) -> None:
        """Open the segments that the manifest names, and index their keys. named: as Segment's."""
        self._directory, self._index, self._mapped_bytes, self._named = directory, index, mapped_bytes, named
        self._tag, self.row_bytes = manifest.tag, manifest.row_bytes
        self._next_number = manifest.next_number
        self.capacity = rows_within(segment_bytes, manifest.row_bytes)
        self.segments: list[Segment] = []
        self.condemned: list[Segment] = []  # compacted, and in the last manifest still
        self.unsynced: set[Segment] = set()
        self.changed = False  # since the last manifest
        self.bytes_written = 0
        self._put_keys: list[Piece] = []  # written to segments, and not all indexed yet
        self._full: FullSegments | None = None
        try:
            for committed in manifest.segments:
                self._open(committed)
            self._segments_changed()
        except BaseException:
            self.release()
            raise

    def _open(self, committed: Committed) -> None:
        path = segment_path(self._directory, committed.number)
        segment, keys = Segment.open(path, committed.number, self.row_bytes, committed.rows, committed.digest)
        self.segments.append(segment)
        self._index.reserve(keys, segment.number + 1)
        self._index.apply(keys, segment.number, 0)

    def append(self, keys: np.ndarray, records: np.ndarray | None) -> None:
        """Append KEY [N] with records uint8 [N, B + 4], or tombstones, and index them.

        Raises:
          StorageFull: nothing is changed.
        """
        self.settle()
        self._index.reserve(keys, self._next_number + len(keys) // self.capacity + 1)
        segments = len(self.segments)
        try:
            pieces = self._put(keys, records)
            if len(self.segments) != segments:
                self._segments_changed()  # first: who finds a row can read it
        except BaseException:
            new = self.segments[segments:]
            del self.segments[segments:]
            for segment in new:
                segment.delete()
            if new:
                self._segments_changed()
            raise
        self._put_keys = pieces
        try:
            self.settle()
        except BaseException:
            self.settle()  # indexes all that was put, now or in the next call
            raise
        self.bytes_written += keys.nbytes + (0 if records is None else records.nbytes)

    def settle(self) -> None:
        """Index what was put in segments. If that breaks off, the next call goes on from there."""
        if not self._put_keys:
            return
        self.changed = True
        for segment, first, keys in self._put_keys:
            self.unsynced.add(segment)
            if segment.rows == first:
                self._index.apply(keys, segment.number, first)
                segment.accept(keys)
        if any(segment.full for segment, _, _ in self._put_keys):
            self._segments_changed()
        self._put_keys = []

    def _put(self, keys: np.ndarray, records: np.ndarray | None) -> list[Piece]:
        """Write to segments; nothing of it is in use yet."""
        pieces, beg = [], 0
        segment = self.segments[-1] if self.segments else self._create()
        while beg < len(keys):
            if beg or segment.full:
                segment = self._create()
            end = min(beg + segment.capacity - segment.rows, len(keys))
            segment.put(keys[beg:end], None if records is None else records[beg:end])
            pieces.append(Piece(segment, segment.rows, keys[beg:end]))
            beg = end
        return pieces

    def _create(self) -> Segment:
        number = self._next_number
        if number >= SEGMENTS:
            raise TableFull(
                f"{self._directory} has had {number - 1:,} segments, and the index numbers no more. Copy its rows, by "
                "scan(), to another directory, with a larger segment_bytes."
            )
        path = segment_path(self._directory, number)
        self._next_number += 1
        self.segments.append(Segment.create(path, number, self.row_bytes, self.capacity, named=self._named))
        return self.segments[-1]

    def condemn(self, segment: Segment) -> None:
        """Take a segment out that no key leads to. Its file is deleted after the next manifest, which does not name it."""
        self.changed = True
        self.unsynced.discard(segment)
        rest = [s for s in self.segments if s is not segment]
        self.segments, self.condemned = rest, [*self.condemned, segment]
        self._segments_changed()

    def _segments_changed(self) -> None:
        self._full = None
        self.view = RowsView.of(self.segments, self._mapped_bytes)
        for segment in self.segments:
            if segment.full:
                segment.release()

    @property
    def full(self) -> FullSegments:
        if self._full is None:
            full = [segment for segment in self.segments if segment.full]
            facts = np.array([(s.number, s.rows, s.tombstones) for s in full], np.int64).reshape(-1, 3)
            self._full = FullSegments(full, *facts.T)
        return self._full

    def manifest(self, numbers: dict[str, int]) -> Manifest:
        segments = [Committed(s.number, s.rows, s.digest) for s in self.segments]
        return Manifest(self._tag, self.row_bytes, self._next_number, segments, len(self._index), numbers)

    def check_named(self) -> None:
        """Raise unless each segment's file is where a manifest would name it.

        Raises:
          CorruptStorage: one is not.
        """
        for segment in self.segments:
            segment.check_named()

    def release(self) -> None:
        """Close files; maps end when nobody reads them."""
        for segment in self.segments + self.condemned:
            segment.release()
        self.segments, self.condemned, self.unsynced = [], [], set()
        self._segments_changed()
