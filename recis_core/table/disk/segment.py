"""One file of the log: rows in the order in which they were written, and their keys.

0             header page: magic, format, bytes of a row, capacity, xxh3 of these
PAGE          keys, 12 bytes each: id i8, table i4. A tombstone has ~table, and a hole for its record
records_at    records, B + 4 bytes each: a row, and its check u4

The manifest keeps one xxh3 of a segment's keys. A row's check follows the row, so a read touches one page; every read
compares it. Rows beyond those that the manifest counts do not exist.

Sizes: R rows of a segment at most, N of a call, B bytes of a row.
"""

from __future__ import annotations

import mmap
import os
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import xxhash

from recis_core.backends.errors import CorruptStorage, NotAFile
from recis_core.backends.tier_loops.disk_index import KEY, ROWS, TABLES
from recis_core.backends.tier_loops.disk_rows import CHECK_BYTES
from recis_core.durable import open_regular
from recis_core.table.disk.disk_space import gone, open_nameless, remove, room_for, write_at
from recis_core.table.disk.mapping import PAGE, FileHandle, Mapping

MAGIC = b"recisrow"
FORMAT = 2
HEADER = struct.Struct("<8sIIQ")


def rows_within(size: int, row_bytes: int) -> int:
    """R of segments of about `size` bytes."""
    return min(max((size - 2 * PAGE) // bytes_of(row_bytes), 8), ROWS)


def bytes_of(row_bytes: int) -> int:
    """A row on disk: key and record."""
    return KEY.itemsize + row_bytes + CHECK_BYTES


def keys_of(ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """KEY [N], of tombstones for ~tables."""
    keys = np.empty(len(ids), KEY)
    keys["id"], keys["table"] = ids, tables
    return keys


class Segment:
    """`rows` of `capacity` are used, and are never written again.

    named: whether its file has a name. Then a store opened later finds it, and others can cut or replace it.
    """

    def __init__(
        self, path: Path, number: int, row_bytes: int, capacity: int, handle: int, *, named: bool = True
    ) -> None:
        """handle: of its file, closed by `release`, or here if that raises."""
        self.path, self.number, self.capacity, self.named = path, number, capacity, named
        self.rows = self.tombstones = 0
        self._record_bytes = row_bytes + CHECK_BYTES
        self.records_at = -(-(PAGE + capacity * KEY.itemsize) // PAGE) * PAGE
        self._digest = xxhash.xxh3_64()
        self._reader: FileHandle | None = None
        self._handle = handle
        try:
            self._file = _identity(os.fstat(handle))
            self.map = Mapping(self._end(capacity), handle)
            self.map.advise(mmap.MADV_RANDOM)
        except BaseException:
            self.release()
            raise

    @classmethod
    def create(cls, path: Path, number: int, row_bytes: int, capacity: int, *, named: bool = True) -> Segment:
        """
        Raises:
          StorageFull, CorruptStorage: no file can be made; there is none of that name then.
        """
        with room_for(path, PAGE):
            if named:
                remove(path)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
            handle = open_regular(path, flags) if named else open_nameless(path.parent)
        segment = None
        try:
            segment = cls(path, number, row_bytes, capacity, handle, named=named)
            write_at(path, handle, np.frombuffer(_header(row_bytes, capacity), np.uint8), 0)
        except BaseException:
            if segment is not None:
                segment.delete()
            elif named:
                path.unlink(missing_ok=True)
            raise
        return segment

    @classmethod
    def open(cls, path: Path, number: int, row_bytes: int, rows: int, digest: int) -> tuple[Segment, np.ndarray]:
        """A segment whose first `rows` rows were committed with this digest of their keys; and the keys."""
        try:
            handle = open_regular(path, os.O_RDWR)
        except FileNotFoundError:
            raise CorruptStorage(
                f"{path} is missing, and the manifest names it. Restore it from a checkpoint."
            ) from None
        try:
            capacity = _capacity(path, handle, row_bytes)
        except BaseException:
            os.close(handle)
            raise
        segment = cls(path, number, row_bytes, capacity, handle)
        try:
            return segment, segment._resume(rows, digest)
        except BaseException:
            segment.release()
            raise

    def _resume(self, rows: int, digest: int) -> np.ndarray:
        if rows > self.capacity:
            raise CorruptStorage(f"{self.path} has room for {self.capacity} rows; the manifest says {rows}.")
        size, needed = os.fstat(self._handle).st_size, self._end(rows)
        if size < needed:
            raise CorruptStorage(f"{self.path} has {size:,} bytes; {rows} rows need {needed:,}. It was cut.")
        os.ftruncate(self._handle, needed)  # what was written after the last flush
        self.rows = rows
        keys = self._read_keys()
        self._digest.update(keys.view(np.uint8))
        self._compare(digest)
        self._compare_limits(keys)
        self.tombstones = int(np.count_nonzero(keys["table"] < 0))
        return keys

    def _compare_limits(self, keys: np.ndarray) -> None:
        """Raise if the index's entries have no room for the numbers."""
        most, least = keys["table"].max(initial=0), keys["table"].min(initial=0)
        if self.capacity > ROWS or max(most, ~least) >= TABLES:
            raise CorruptStorage(
                f"{self.path} has room for {self.capacity:,} rows, and tables up to {max(most, ~least):,}; this "
                f"recis-core reads {ROWS:,} rows a segment, and tables below {TABLES:,}. Restore from a checkpoint."
            )

    @property
    def full(self) -> bool:
        return self.rows == self.capacity

    def reader(self) -> FileHandle | None:
        """A handle to read by, also after the file was deleted. None if it was deleted before.

        Raises:
          OSError: the process has no more handles. CorruptStorage: another file has its name.
        """
        if self._reader is None and self.named:
            self._reader = FileHandle(self._reopened())
        elif self._reader is None and self._handle >= 0:
            self._reader = FileHandle(os.dup(self._handle))
        return self._reader

    def _reopened(self) -> int:
        try:
            handle = open_regular(self.path, os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError, NotAFile) as error:
            raise gone(self.path) from error
        if _identity(os.fstat(handle)) != self._file:
            os.close(handle)
            raise self._replaced()
        return handle

    def check_named(self) -> None:
        """Raise unless a store that is opened later will find this file.

        Raises:
          CorruptStorage: it will not.
        """
        try:
            found = _identity(os.stat(self.path, follow_symlinks=False))
        except OSError as error:
            raise gone(self.path) from error
        if found != self._file:
            raise self._replaced()

    def check_length(self) -> None:
        """Before the map is read: a read past the end of a file that was cut kills the process.

        Raises:
          CorruptStorage: it was cut, or is gone and has no handle.
        """
        needed, reader = self._end(self.rows), self._reader  # before: what is added meanwhile makes it longer
        if not self.named:
            return
        try:
            size = self._named_length() if reader is None else os.fstat(reader.number).st_size
        except CorruptStorage:
            if not self.named:  # deleted meanwhile, after it was compacted; nobody can cut it any more
                return
            raise
        if size < needed:
            raise CorruptStorage(
                f"{self.path} has {size:,} bytes; {needed:,} are in use. It was cut while it was open; restore the directory "
                "from a checkpoint."
            )

    def _named_length(self) -> int:
        self.check_named()
        with room_for(self.path, 0):
            return os.stat(self.path, follow_symlinks=False).st_size

    def _replaced(self) -> CorruptStorage:
        return CorruptStorage(
            f"{self.path} is another file than the one that was opened. Rows that are in memory are whole: save them by "
            "state_dict(), close, and build the engine anew on a directory that nobody touches."
        )

    @property
    def digest(self) -> int:
        return self._digest.intdigest()

    @property
    def bytes(self) -> int:
        """On disk, of rows in use; a tombstone's hole takes no space."""
        return PAGE + self.rows * KEY.itemsize + (self.rows - self.tombstones) * self._record_bytes

    def put(self, keys: np.ndarray, records: np.ndarray | None) -> None:
        """Write KEY [N] and uint8 [N, B + 4] after the used rows; `accept` makes them used.

        Raises:
          StorageFull: the used rows are as before.
        """
        write_at(self.path, self._handle, keys, PAGE + self.rows * KEY.itemsize)
        end = self._end(self.rows + len(keys))
        if records is not None:
            write_at(self.path, self._handle, records, self._end(self.rows))
        elif os.fstat(self._handle).st_size < end:
            with room_for(self.path, 0):
                os.ftruncate(self._handle, end)

    def accept(self, keys: np.ndarray) -> None:
        """The rows that were put last are used now."""
        digest = self._digest.copy()
        digest.update(keys.view(np.uint8))
        tombstones = self.tombstones + int(np.count_nonzero(keys["table"] < 0))
        self._digest, self.tombstones, self.rows = digest, tombstones, self.rows + len(keys)

    def keys(self) -> np.ndarray:
        """KEY [rows], of the rows in use.

        Raises:
          CorruptStorage: they are not what was written.
        """
        keys = self._read_keys()
        self._compare(xxhash.xxh3_64_intdigest(keys.view(np.uint8)))
        return keys

    def _read_keys(self) -> np.ndarray:
        if not self.named:
            return self.map.array(np.dtype(np.uint8))[PAGE : PAGE + self.rows * KEY.itemsize].copy().view(KEY)
        handle = self._handle if self._handle >= 0 else self._reopened()
        try:
            found = _read_at(handle, self.rows * KEY.itemsize, PAGE)
        finally:
            if handle != self._handle:
                os.close(handle)
        if len(found) != self.rows * KEY.itemsize:
            keys = len(found) // KEY.itemsize
            raise CorruptStorage(f"{self.path} ends after {keys} keys; {self.rows} were written. It was cut.")
        return np.frombuffer(found, KEY)

    def _compare(self, digest: int) -> None:
        if digest != self.digest:
            raise CorruptStorage(
                f"{self.path}: the {self.rows} keys have xxh3 {self.digest:016x}; {digest:016x} was expected. "
                "They were damaged; restore the directory from a checkpoint."
            )

    def _end(self, rows: int) -> int:
        return self.records_at + rows * self._record_bytes

    def release(self) -> None:
        """Close the file; its map lasts as long as readers do."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def delete(self) -> None:
        """Delete the file; its space comes back after the last reader."""
        self.release()
        named, self.named = self.named, False
        if named:
            with suppress(IsADirectoryError, NotADirectoryError, PermissionError):  # that file is not ours
                self.path.unlink(missing_ok=True)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _read_at(handle: int, size: int, offset: int) -> bytearray:
    """The bytes there; fewer where the file ends."""
    found = bytearray()
    while len(found) < size:
        part = os.pread(handle, min(size - len(found), 1 << 30), offset + len(found))
        if not part:
            break
        found += part
    return found


def _header(row_bytes: int, capacity: int) -> bytes:
    facts = HEADER.pack(MAGIC, FORMAT, row_bytes, capacity)
    return (facts + xxhash.xxh3_64_digest(facts)).ljust(PAGE, b"\0")


def _capacity(path: Path, handle: int, row_bytes: int) -> int:
    """Of the file, by its header."""
    header = bytes(_read_at(handle, PAGE, 0))
    if len(header) < PAGE or header[: len(MAGIC)] != MAGIC:
        raise CorruptStorage(f"{path} is no segment: it begins with {header[: len(MAGIC)]!r}, not {MAGIC!r}.")
    _, version, found, capacity = HEADER.unpack_from(header)
    if header != _header(found, capacity) or version != FORMAT or found != row_bytes:
        raise CorruptStorage(
            f"{path} has a header of format {version} with {found} bytes a row, or a damaged one; "
            f"format {FORMAT} with {row_bytes} was expected. Restore the directory from a checkpoint, or name an empty one."
        )
    return int(capacity)
