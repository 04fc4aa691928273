"""One file of the log: rows in the order in which they were written, and their keys.

0             header page: magic, format, bytes of a row, capacity, xxh3 of these
PAGE          keys, 12 bytes each: id i8, table i4. A tombstone has ~table, and a hole for its record
records_at    records, B + 4 bytes each: a row, and its check u4

Keys are covered by one xxh3 a segment, which the manifest keeps; a row by its check, which every read compares and
which lies behind it, so that a read touches one page. What lies behind the rows that the manifest counts is not there.

Sizes: R rows of a segment at most, N of a call, B bytes of a row.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

import numpy as np
import xxhash

from backends.errors import CorruptStorage
from backends.numba_backend.disk_index import KEY, ROWS, TABLES
from backends.numba_backend.disk_rows import CHECK_BYTES
from recis_core.table.disk.disk_space import room_for, write_at
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
    """`rows` of `capacity` are used; they are never written again."""

    def __init__(self, path: Path, number: int, row_bytes: int, capacity: int) -> None:
        self.path, self.number, self.capacity = path, number, capacity
        self.rows = self.tombstones = 0
        self._record_bytes = row_bytes + CHECK_BYTES
        self.records_at = -(-(PAGE + capacity * KEY.itemsize) // PAGE) * PAGE
        self._digest = xxhash.xxh3_64()
        self._reader: FileHandle | None = None
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self.map = Mapping(self._end(capacity), self._handle)
            self.map.advise(mmap.MADV_RANDOM)
        except OSError:
            self.release()
            raise

    @classmethod
    def create(cls, path: Path, number: int, row_bytes: int, capacity: int) -> Segment:
        segment = cls(path, number, row_bytes, capacity)
        try:
            write_at(path, segment._handle, np.frombuffer(_header(row_bytes, capacity), np.uint8), 0)
        except BaseException:
            segment.delete()
            raise
        return segment

    @classmethod
    def open(cls, path: Path, number: int, row_bytes: int, rows: int, digest: int) -> tuple[Segment, np.ndarray]:
        """One whose first `rows` rows were committed with this digest of their keys; and the keys."""
        segment = cls(path, number, row_bytes, _capacity(path, row_bytes))
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
        if self.full:
            self.release()
        return keys

    def _compare_limits(self, keys: np.ndarray) -> None:
        """Of the index's entries."""
        most, least = keys["table"].max(initial=0), keys["table"].min(initial=0)
        if self.capacity > ROWS or max(most, ~least) >= TABLES:
            raise CorruptStorage(
                f"{self.path} has room for {self.capacity:,} rows, and tables up to {max(most, ~least):,}; this "
                f"recis-core reads {ROWS:,} rows a segment, and tables below {TABLES:,}. Restore from a checkpoint."
            )

    @property
    def full(self) -> bool:
        return self.rows == self.capacity

    def reader(self) -> FileHandle:
        """To read the file by, also once it was deleted; held open until nobody needs it."""
        if self._reader is None:
            self._reader = FileHandle(self.path)
        return self._reader

    @property
    def digest(self) -> int:
        return self._digest.intdigest()

    @property
    def bytes(self) -> int:
        """On disk, of what is used; a tombstone's hole takes none."""
        return PAGE + self.rows * KEY.itemsize + (self.rows - self.tombstones) * self._record_bytes

    def put(self, keys: np.ndarray, records: np.ndarray | None) -> None:
        """Write KEY [N] and uint8 [N, B + 4] behind what is used; only `accept` makes it used.

        Raises:
          StorageFull: nothing is used that was not before.
        """
        write_at(self.path, self._handle, keys, PAGE + self.rows * KEY.itemsize)
        end = self._end(self.rows + len(keys))
        if records is not None:
            write_at(self.path, self._handle, records, self._end(self.rows))
        elif os.fstat(self._handle).st_size < end:
            with room_for(self.path, 0):
                os.ftruncate(self._handle, end)

    def accept(self, keys: np.ndarray) -> None:
        """What was put last is used."""
        self._digest.update(keys.view(np.uint8))
        self.rows += len(keys)
        self.tombstones += int(np.count_nonzero(keys["table"] < 0))
        if self.full:
            self.release()

    def keys(self) -> np.ndarray:
        """Those in use, KEY [rows].

        Raises:
          CorruptStorage: they are not what was written.
        """
        keys = self._read_keys()
        self._compare(xxhash.xxh3_64_intdigest(keys.view(np.uint8)))
        return keys

    def _read_keys(self) -> np.ndarray:
        keys = np.fromfile(self.path, KEY, self.rows, offset=PAGE)
        if len(keys) != self.rows:
            raise CorruptStorage(f"{self.path} ends after {len(keys)} keys; {self.rows} were written. It was cut.")
        return keys

    def _compare(self, digest: int) -> None:
        if digest != self.digest:
            raise CorruptStorage(
                f"{self.path}: the {self.rows} keys have xxh3 {self.digest:016x}; {digest:016x} was expected. "
                "They were damaged; restore the directory from a checkpoint."
            )

    def _end(self, rows: int) -> int:
        return self.records_at + rows * self._record_bytes

    def release(self) -> None:
        """Close the file; its map stays for those who read."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def delete(self) -> None:
        """The disk's space comes back when nobody reads it any more."""
        self.release()
        self.path.unlink(missing_ok=True)


def _header(row_bytes: int, capacity: int) -> bytes:
    facts = HEADER.pack(MAGIC, FORMAT, row_bytes, capacity)
    return (facts + xxhash.xxh3_64_digest(facts)).ljust(PAGE, b"\0")


def _capacity(path: Path, row_bytes: int) -> int:
    """As the header says."""
    try:
        with path.open("rb") as file:
            header = file.read(PAGE)
    except FileNotFoundError:
        raise CorruptStorage(f"{path} is missing, and the manifest names it. Restore it from a checkpoint.") from None
    if len(header) < PAGE or header[: len(MAGIC)] != MAGIC:
        raise CorruptStorage(f"{path} is no segment: it begins with {header[: len(MAGIC)]!r}, not {MAGIC!r}.")
    _, version, found, capacity = HEADER.unpack_from(header)
    if header != _header(found, capacity) or version != FORMAT or found != row_bytes:
        raise CorruptStorage(
            f"{path} has a header of format {version} with {found} bytes a row, or a damaged one; "
            f"format {FORMAT} with {row_bytes} was expected. Restore the directory from a checkpoint, or name an empty one."
        )
    return int(capacity)
