"""Rows on disk: a log of checksummed segments, an index in memory or beside them, one manifest a flush.

Sizes: N keys of a call, B bytes of a row.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from recis_core.backends.errors import RecisError, StorageFull
from recis_core.backends.tier_loops.disk_index import TABLES
from recis_core.table.disk.compaction import Compactor
from recis_core.table.disk.directory_lock import DirectoryLock
from recis_core.table.disk.disk_index import DiskIndex
from recis_core.table.disk.disk_space import Reserve, sync_file
from recis_core.table.disk.log import Log
from recis_core.table.disk.manifest import Manifest, open_directory
from recis_core.table.disk.mapping import MappedMemory
from recis_core.table.disk.rows_view import RowReader
from recis_core.table.disk.segment import Segment, bytes_of, keys_of
from recis_core.table.tier_store import Chunk
from recis_core.urls import local_path

READ_THREADS = 8  # more than cores: some wait for a page
INDEX_BYTES = 3 << 30
MAPPED_BYTES = 2 << 30


class DiskStore:
    """A TierStore in a directory. Local disks; Linux.

    After a crash the store holds exactly what the last flush left. A full disk raises StorageFull and changes nothing. Reading
    a damaged row, or a file that was cut or replaced, raises CorruptStorage. A store belongs to the process that opened it:
    in a forked child every call raises RecisError, and changes nothing.

    `numbers`: what the last flush was given to keep with its rows.

    Args:
      path: of the directory, made if need be; one store has it open at a time.
      row_bytes: B.
      tag: which rows these are; a directory with another tag is refused.
      segment_bytes: of a file, about.
      threads: that read rows.
      mapped_bytes: pages of files that this process keeps mapped. Stores of more bytes are read by system calls, which are
        slower where the page cache has the files.
      index_bytes: of memory, for 16 bytes a slot of the index. A larger index moves to a file, which is slower once the page
        cache does not hold it. 0 starts there. A byte a slot stays in memory always.
      compact_below: a file whose rows are used to a smaller share is compacted.
      sync: whether a flush waits for the disk. Without, it outlives a crash of the process, not one of the machine.
      keep: False for files without names. Nobody else can open or cut them, and their space comes back when the store is
        closed or this process ends in any way. Several stores may share a directory then.
    """

    def __init__(
        self, path: str | Path, row_bytes: int, *, tag: str, segment_bytes: int = 64 << 20,
        threads: int = READ_THREADS, mapped_bytes: int = MAPPED_BYTES, index_bytes: int = INDEX_BYTES, compact_below: float = 0.5,
        sync: bool = True, keep: bool = True,
    ) -> None:  # fmt: skip
        """
        Raises:
          StorageInUse, CorruptStorage, StorageFull. NotAFile: a link, a directory or a pipe has the name of a file.
        """
        if row_bytes < 1 or threads < 1 or index_bytes < 0 or not 0 <= compact_below < 1:
            raise ValueError(
                "row_bytes and threads must be at least 1, index_bytes at least 0, compact_below in [0, 1); "
                f"got {row_bytes}, {threads}, {index_bytes} and {compact_below}."
            )
        self.path, self.row_bytes, self.keep = local_path(path, "a store of rows"), row_bytes, keep
        self._sync, self._mapped_bytes, self._process = sync and keep, mapped_bytes, os.getpid()
        self._lock, self._flushing = threading.RLock(), threading.Lock()
        self._broken: OSError | None = None
        self._closed = False
        self._flushes = self._bytes_read = 0
        with ExitStack() as undo:  # what is given back by close, the last taken first
            self._open(undo, tag, segment_bytes, threads, index_bytes, compact_below)
            self._undo = undo.pop_all()

    def _open(
        self, undo: ExitStack, tag: str, segment_bytes: int, threads: int, index_bytes: int, compact_below: float
    ) -> None:
        self._directory_lock = None if not self.keep else DirectoryLock(self.path)
        if self._directory_lock is not None:
            undo.callback(self._directory_lock.release)
            manifest = open_directory(self.path, tag, self.row_bytes, sync=self._sync)
        else:
            manifest = Manifest(tag, self.row_bytes)
        self.numbers = manifest.numbers
        self._mapped = MappedMemory()
        undo.callback(self._mapped.close)
        self._reader = RowReader(self.row_bytes, threads)
        undo.callback(self._reader.close)
        self._index = DiskIndex(self.path, manifest.live, index_bytes)
        undo.callback(_under, self._lock, self._index.close)
        self._log = Log(self.path, manifest, self._index, segment_bytes, self._mapped_bytes, named=self.keep)
        undo.callback(_under, self._lock, self._log.release)
        self._reserve = Reserve(self.path, named=self.keep)
        undo.callback(self._reserve.close)
        self._compactor = Compactor(self._lock, self._log, self._index, self._reader, compact_below)
        undo.callback(self._compactor.end)
        self._compactor.look()

    def find(self, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        """int64 [N], where each row lies, -1 for none. Another number once the row was written again, or compacted."""
        self._check(ids, tables)
        with self._lock:
            self._log.settle()
            return self._index.find(ids, tables)

    def read(self, ids: np.ndarray, tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(bool [N], which are here; uint8 [N, B], zeros for the others)

        Raises:
          CorruptStorage: a row is not what was written.
        """
        self._check(ids, tables)
        with self._lock:
            self._log.settle()
            locations = self._index.find(ids, tables)
            view = self._log.view
        rows = self._reader.read(view, ids, tables, locations)
        here = locations >= 0
        self._bytes_read += int(np.count_nonzero(here)) * self.row_bytes
        self._bound_mapped()
        return here, rows

    def write(self, ids: np.ndarray, tables: np.ndarray, rows: np.ndarray) -> None:
        """Insert or overwrite.

        Raises:
          StorageFull: nothing was written.
        """
        self._check(ids, tables)
        if rows.dtype != np.uint8 or rows.shape != (len(ids), self.row_bytes):
            raise ValueError(
                f"rows must be uint8 [{len(ids)}, {self.row_bytes}]; got {rows.dtype} {list(rows.shape)}. "
                "View other dtypes as bytes."
            )
        self._check_whole()
        if not len(ids):
            return
        records = self._reader.seal(ids, tables, np.ascontiguousarray(rows))
        with self._lock:
            self._log.append(keys_of(ids, tables), records)
        self._compactor.look()
        self._bound_mapped()

    def erase(self, ids: np.ndarray, tables: np.ndarray) -> int:
        """Forget keys; how many were here.

        Raises:
          StorageFull: all are here still. What is erased is written too; a reserve of 1 MiB is kept for that.
        """
        self._check(ids, tables)
        self._check_whole()
        with self._lock:
            self._log.settle()
            here = self._index.find(ids, tables) >= 0
            if here.any():
                keys = keys_of(ids[here], ~tables[here])
                self._reserve.lend(lambda: self._log.append(keys, None))
        self._compactor.look()
        return int(here.sum())

    def scan(self, chunk: int = 65_536) -> Iterator[Chunk]:
        """All rows, each once, in the order in which they were written. Nothing may be written or erased until it ends.

        Raises:
          CorruptStorage: keys or a row are not what was written.
        """
        self._check_open()
        with self._compactor.paused():
            with self._lock:
                self._log.settle()
            for segment in list(self._log.segments):
                yield from self._scan_segment(segment, chunk)

    def scan_tables(self, chunk: int = 65_536) -> Iterator[np.ndarray]:
        """As `scan`, of the rows' tables alone, int32 [n]; no row is read."""
        with self._compactor.paused():
            for segment in list(self._log.segments):
                for _, tables, _ in self._keys_in(segment, chunk):
                    yield tables

    def _scan_segment(self, segment: Segment, chunk: int) -> Iterator[Chunk]:
        for ids, tables, here in self._keys_in(segment, chunk):
            yield ids, tables, self._reader.read(self._log.view.in_order(), ids, tables, here)
            self._bound_mapped()

    def _keys_in(self, segment: Segment, chunk: int) -> Iterator[Chunk]:
        """Keys that lead to rows of the segment, and where these are, int64 [n]."""
        keys = segment.keys()
        for beg in range(0, len(keys), chunk):
            part = keys[beg : beg + chunk]
            here = (np.int64(segment.number) << 32) + beg + np.arange(len(part))
            ids, tables = part["id"].copy(), part["table"].copy()
            with self._lock:
                used = self._index.find(ids, tables) == here
            if used.any():
                yield ids[used], tables[used], here[used]

    def verify(self) -> int:
        """Read everything; the number of rows.

        Raises:
          CorruptStorage: keys or a row are not what was written.
        """
        return sum(len(ids) for ids, _, _ in self.scan())

    def compact(self) -> None:
        """Take back all space that is worth it, and flush.

        Raises:
          StorageFull: what was not compacted is as before.
        """
        self._check_whole()
        self._compactor.finish()
        self.flush()

    def __len__(self) -> int:
        self._check_open()
        with self._lock:
            self._log.settle()
            return len(self._index)

    def flush(self, numbers: Mapping[str, int] | None = None) -> None:
        """What was written before is kept, whatever becomes of this process.

        numbers: kept with it, both or none; None leaves them as they were.

        Raises:
          StorageFull: the directory holds what the last flush left, and this store what it held.
          OSError: the disk failed. What it holds of later writes is unknown, so no more are taken.
        """
        self._check_whole()
        self._flush(numbers)
        self._compactor.resume()

    def _flush(self, numbers: Mapping[str, int] | None = None) -> None:
        with self._flushing:
            kept = self.numbers if numbers is None else dict(numbers)
            with self._lock:
                self._log.settle()
                log = self._log
                manifest, unsynced, condemned = log.manifest(kept), log.unsynced, list(log.condemned)
                changed = log.changed or kept != self.numbers
                if self.keep and changed:
                    log.check_named()
                log.unsynced, log.changed = set(), False
            try:
                if changed:
                    self._commit(manifest, unsynced)
                    self.numbers = kept
                    self._flushes += 1
            except BaseException:
                with self._lock:
                    log.unsynced |= unsynced
                    log.changed = True
                raise
            self._delete(condemned)
            self._reserve.fill()

    def _commit(self, manifest: Manifest, unsynced: set[Segment]) -> None:
        """Files without names need no manifest: they end with this process."""
        if self._directory_lock is None:
            return
        self._sync_all(unsynced)
        self._directory_lock.check()
        self._reserve.lend(lambda: manifest.commit(self.path, sync=self._sync))

    def _sync_all(self, segments: set[Segment]) -> None:
        """After a failed fsync the system may report lost pages as written, so a second fsync proves nothing."""
        try:
            for segment in segments if self._sync else ():
                sync_file(segment.path)
        except OSError as error:
            self._broken = error
            raise

    def _delete(self, condemned: list[Segment]) -> None:
        for segment in condemned:
            segment.delete()
        with self._lock:
            self._log.condemned = [s for s in self._log.condemned if s not in condemned]

    def freed_by_flush(self) -> int:
        """Bytes of files that were compacted, and that the last flush still needs until there is another."""
        with self._lock:
            return sum(segment.bytes for segment in self._log.condemned)

    def close(self, *, flush: bool = True) -> None:
        """Flush, and give back files and threads. If the flush raises StorageFull, the store stays open.

        flush: without it the directory holds what the last flush left; with it, it does so where the flush fails otherwise,
          and the store is closed all the same.

        Raises:
          StorageFull: call again once there is space. CorruptStorage, OSError: what was wrong with the disk or its files.
        """
        if self._closed or os.getpid() != self._process:
            return
        if flush and self._broken is None:
            try:
                self._flush()
            except (StorageFull, MemoryError):
                raise
            except Exception:
                self._release()
                raise
        self._release()
        self._compactor.raise_error()
        self._check_unbroken()

    def _release(self) -> None:
        """Give back each resource, whatever the others raise; then another store may open the directory."""
        self._closed = True
        self._undo.close()

    def stats(self) -> dict[str, int]:
        """Counts and bytes; of files, `disk_bytes` is what a manifest or a row needs, `dead_bytes` what is not used."""
        self._check_open()
        with self._lock:
            segments, rows = self._log.segments, len(self._index)
            disk = sum(s.bytes for s in segments + self._log.condemned)
            live = rows * bytes_of(self.row_bytes)
            return {
                "rows": rows,
                "live_bytes": live,
                "dead_bytes": disk - live,
                "disk_bytes": disk,
                "tombstones": sum(s.tombstones for s in segments),
                "segments": len(segments),
                "index_memory_bytes": self._index.memory_bytes,
                "index_disk_bytes": self._index.disk_bytes,
                "compactions": self._compactor.compactions,
                "bytes_read": self._bytes_read + self._compactor.bytes_read,
                "bytes_written": self._log.bytes_written,
                "flushes": self._flushes,
            }

    def _bound_mapped(self) -> None:
        """Rows are unmapped first: they come back in large pages, the index in small ones, with a fault for each key."""
        if self._mapped.grown() <= self._mapped_bytes:
            return
        self._log.view.let_go()
        if self._mapped.grown() > self._mapped_bytes // 2:
            with self._lock:
                self._index.let_go()
            self._mapped.restart()

    def _check(self, ids: np.ndarray, tables: np.ndarray) -> None:
        self._check_open()
        if ids.dtype != np.int64 or tables.dtype != np.int32 or ids.ndim != 1 or ids.shape != tables.shape:
            raise ValueError(
                "ids must be int64 [N] and tables int32 [N]; "
                f"got {ids.dtype} {list(ids.shape)} and {tables.dtype} {list(tables.shape)}."
            )
        if len(tables) and (tables.min() < 0 or tables.max() >= TABLES):
            raise ValueError(
                f"tables must be at least 0 and at most {TABLES - 1:,}, which an entry of the index has bits for; "
                f"got {tables.min()} to {tables.max()}."
            )

    def _check_open(self) -> None:
        if os.getpid() != self._process:
            raise RecisError(
                f"the rows on disk in {self.path} belong to process {self._process}, which opened them; this is process "
                f"{os.getpid()}, forked from it, and changed nothing there. Use the engine in its own process, or start this "
                'one by multiprocessing\'s method "spawn" and build an engine there.'
            )
        if self._closed:
            raise ValueError(f"{self.path} was closed. Open it again with DiskStore.")
        self._compactor.raise_error()

    def _check_whole(self) -> None:
        self._check_open()
        self._check_unbroken()

    def _check_unbroken(self) -> None:
        if self._broken is not None:
            raise OSError(
                self._broken.errno, f"{self.path}: the disk failed in a flush ({self._broken}); what was flushed before is "
                "whole. Close the store, and open it again on a sound disk.",
            )  # fmt: skip


def _under(lock: threading.RLock, call: Callable[[], None]) -> None:
    with lock:
        call()
