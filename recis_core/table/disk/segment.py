"""One file of the log: rows in the order in which they were written, and their keys.

0             header page: magic, format, bytes of a row, capacity, xxh3 of these
PAGE          keys, 16 bytes each: id i8, table i4, check u4. A tombstone has ~table, and a hole for its row
rows_at       rows, B bytes each

Keys are covered by one xxh3 a segment, which the manifest keeps; rows by the 32-bit check in their key, which every
read compares. What lies behind the rows that the manifest counts is not there.

Sizes: R rows of a segment at most, B bytes of a row.
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
from recis_core.table.disk.disk_space import room_for, write_at
from recis_core.table.disk.mapping import PAGE, Mapping

MAGIC = b"recisrow"
FORMAT = 1
HEADER = struct.Struct("<8sIIQ")


def rows_within(size: int, row_bytes: int) -> int:
    """R of segments of about `size` bytes."""
    return min(max((size - 2 * PAGE) // (KEY.itemsize + row_bytes), 8), ROWS)


class Segment:
    """`rows` of `capacity` are used; they are never written again."""

    def __init__(self, path: Path, number: int, row_bytes: int, capacity: int) -> None:
        self.path, self.number, self.row_bytes, self.capacity = path, number, row_bytes, capacity
        self.rows = self.tombstones = 0
        self._rows_at = -(-(PAGE + capacity * KEY.itemsize) // PAGE) * PAGE
        self._digest = xxhash.xxh3_64()
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self.map = Mapping(self._rows_at + capacity * row_bytes, self._handle)
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

    @property
    def base(self) -> int:
        """The address of row 0."""
        return self.map.address + self._rows_at

    @property
    def keys_base(self) -> int:
        """The address of key 0."""
        return self.map.address + PAGE

    @property
    def digest(self) -> int:
        return self._digest.intdigest()

    @property
    def bytes(self) -> int:
        """On disk, of what is used; a tombstone's hole takes none."""
        return PAGE + self.rows * KEY.itemsize + (self.rows - self.tombstones) * self.row_bytes

    def put(self, keys: np.ndarray, rows: np.ndarray | None) -> None:
        """Write behind what is used; only `accept` makes it used.

        Raises:
          StorageFull: nothing is used that was not before.
        """
        write_at(self.path, self._handle, keys, PAGE + self.rows * KEY.itemsize)
        end = self._end(self.rows + len(keys))
        if rows is not None:
            write_at(self.path, self._handle, rows, self._end(self.rows))
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
        return self._rows_at + rows * self.row_bytes

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
            f"format {FORMAT} with {row_bytes} was expected."
        )
    return int(capacity)
