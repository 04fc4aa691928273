"""Space taken back: rows of a segment that are still used are appended again; the next flush deletes its file.

A segment's tombstones are needed while an older segment may hold a row that they hide. So those of the oldest segment
are dropped, others move. Where there is more than one tombstone to two rows, segments are compacted from the oldest on,
until every tombstone was reached.

Compaction commits nothing: a manifest between two flushes would keep half of what was written since the last.

Sizes: N keys of a batch.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from recis_core.backends.errors import CorruptStorage, StorageFull
from recis_core.table.disk.disk_index import DiskIndex
from recis_core.table.disk.log import Log
from recis_core.table.disk.rows_view import RowReader
from recis_core.table.disk.segment import Segment

BATCH = 2048  # rows moved while writers wait
FAR_BEHIND = 3  # as many unused rows as used ones: then writers compact, too


class Compactor:
    """One thread that sleeps until a segment is worth it."""

    def __init__(self, lock: threading.RLock, log: Log, index: DiskIndex, reader: RowReader, below: float) -> None:
        """lock: guards log and index."""
        self._lock, self._log, self._index, self._reader, self._below = lock, log, index, reader, below
        self._turn = threading.Lock()  # held by the thread that compacts; taken before `lock`
        self._wake = threading.Event()
        self._ended = self._postponed = False
        self._pauses = 0
        self._error: Exception | None = None
        self._spoiled: list[int] = []  # damaged segments, which the thread leaves alone
        self.compactions = self.bytes_read = 0
        self._thread = threading.Thread(target=self._run, name="recis-disk-compaction", daemon=True)
        self._thread.start()

    def raise_error(self) -> None:
        """The error of compactions since the last call, if there was one."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def look(self) -> None:
        """After a write: wake the thread if a segment is worth it. If writers are far ahead, the caller compacts."""
        if self._postponed or self._victim() is None:
            return
        self._wake.set()
        if self._far_behind() and not self._pauses:
            self._step()

    def resume(self) -> None:
        """After a flush, which may have freed space."""
        self._postponed = False
        self.look()

    def finish(self) -> None:
        """Compact all that is worth it.

        Raises:
          StorageFull, CorruptStorage: what was not compacted is as before.
          RuntimeError: a scan has not ended.
        """
        with self._turn:
            if self._pauses:
                raise RuntimeError(
                    "compact() would move rows that a scan has not come to. End or close the scan first."
                )
            self.raise_error()
            self._spoiled.clear()
            while (victim := self._victim()) is not None:
                self._try(victim)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No row moves."""
        with self._turn:
            self._pauses += 1
        try:
            yield
        finally:
            with self._turn:
                self._pauses -= 1
            self.look()

    def end(self) -> None:
        """End the thread, before its files are closed."""
        self._ended = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while not self._ended and self._step():
                pass
            if self._ended:
                return

    def _step(self) -> bool:
        """Compact one segment; False if none is worth it. An error is kept for the next call."""
        with self._turn:
            victim = None if self._postponed or self._ended or self._pauses else self._victim()
            if victim is None:
                return False
            try:
                self._try(victim)
            except StorageFull:
                self._postponed = True
            except Exception as error:
                self._error, self._postponed = error, not isinstance(error, CorruptStorage)
            return True

    def _try(self, victim: Segment) -> None:
        try:
            self._clean(victim)
        except CorruptStorage:
            self._spoiled.append(victim.number)
            raise

    def _victim(self) -> Segment | None:
        """The full segment with the smallest share in use, if that is small."""
        with self._lock:
            full = self._log.full
            if not full.segments:
                return None
            if self._many_tombstones():
                return full.segments[0]
            needed = np.where(full.numbers == self._log.segments[0].number, 0, full.tombstones)
            shares = (self._index.live[full.numbers] + needed) / full.rows
            shares[np.isin(full.numbers, self._spoiled)] = 1
            least = int(shares.argmin())
            return full.segments[least] if shares[least] < self._below else None

    def _many_tombstones(self) -> bool:
        if self._spoiled:  # they would never go
            return False
        return int(self._log.full.tombstones.sum()) > len(self._index) // 2 + self._log.capacity

    def _far_behind(self) -> bool:
        with self._lock:
            used, rows = len(self._index), int(self._log.full.rows.sum())
            return rows > (1 + FAR_BEHIND) * used + 4 * self._log.capacity

    def _clean(self, victim: Segment) -> None:
        keys = victim.keys()
        for beg in range(0, len(keys), BATCH):
            if self._ended:
                return
            self._move(victim, keys[beg : beg + BATCH], beg)
        with self._lock:
            self._log.condemn(victim)
            self.compactions += 1

    def _move(self, victim: Segment, keys: np.ndarray, first: int) -> None:
        """Rows that keys still lead to, and tombstones of keys that are nowhere, unless nothing is older."""
        here = (np.int64(victim.number) << 32) + first + np.arange(len(keys))
        ids, tables = keys["id"].copy(), np.where(keys["table"] < 0, ~keys["table"], keys["table"])
        with self._lock:
            locations = self._index.find(ids, tables)
            view = self._log.view.in_order()
        used = np.flatnonzero(locations == here)
        rows = self._reader.read(view, ids[used], tables[used], locations[used])
        records = self._reader.seal(ids[used], tables[used], rows)
        with self._lock:
            locations = self._index.find(ids, tables)  # some may have been written meanwhile
            still = locations[used] == here[used]
            self._append(keys[used[still]], records[still])
            if victim is not self._log.segments[0]:
                self._append(keys[(keys["table"] < 0) & (locations < 0)], None)
        self.bytes_read += rows.nbytes

    def _append(self, keys: np.ndarray, records: np.ndarray | None) -> None:
        if len(keys):
            self._log.append(keys, records)
