"""The disk tier on RocksDB, by the package rocksdict: what DiskStore is tested against, and slower.

A key is 4 bytes of table, big-endian, and 8 of id; its value the number of the write, 8 bytes, and the row.

Sizes: N keys of a call, B bytes of a row.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recis_core.backends.errors import BackendUnavailable, CorruptStorage
from recis_core.table.tier_store import Chunk
from recis_core.urls import local_path

KEY = np.dtype([("table", ">i4"), ("id", "<i8")])
ABOUT = b"\xff about"  # behind all keys, whose tables are not negative: number of writes, tag
NUMBERS = b"\xff numbers"  # of the last flush, as JSON


class RocksStore:
    """A TierStore in a directory; see DiskStore for its arguments and errors."""

    def __init__(self, path: str | Path, row_bytes: int, *, tag: str, sync: bool = True) -> None:
        rocks = _rocksdict()
        self.path = local_path(path, "a store of rows")
        self.row_bytes, self._sync, self._batch = row_bytes, sync, rocks.WriteBatch
        self.path.mkdir(parents=True, exist_ok=True)
        self._db = rocks.Rdict(str(self.path), rocks.Options(raw_mode=True))
        self._lock = threading.RLock()
        self._about = f"{row_bytes} bytes of {tag}".encode()
        try:
            self._number = self._read_number()
        except CorruptStorage:
            self._db.close()
            raise
        self.numbers: dict[str, int] = json.loads(self._db.get(NUMBERS) or b"{}")
        self._count = sum(1 for key in self._db.keys() if key not in (ABOUT, NUMBERS))  # noqa: SIM118, Rdict itself is not iterable
        self._flushes = self._bytes_read = self._bytes_written = 0

    def _read_number(self) -> int:
        found = self._db.get(ABOUT)
        if found is not None and found[8:] != self._about:
            raise CorruptStorage(
                f"{self.path} holds rows of {found[8:].decode()}; {self._about.decode()} were wanted. Name another directory."
            )
        return int.from_bytes(found[:8], "little") if found else 0

    def find(self, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        values = self._get(ids, tables)
        return np.array([-1 if v is None else int.from_bytes(v[:8], "little") for v in values], np.int64)

    def read(self, ids: np.ndarray, tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = self._get(ids, tables)
        here = np.array([value is not None for value in values], bool)
        rows = np.zeros((len(ids), self.row_bytes), np.uint8)
        found = b"".join(value[8:] for value in values if value is not None)
        rows[here] = np.frombuffer(found, np.uint8).reshape(-1, self.row_bytes)
        self._bytes_read += len(found)
        return here, rows

    def write(self, ids: np.ndarray, tables: np.ndarray, rows: np.ndarray) -> None:
        if not len(ids):
            return
        with self._lock:
            new = sum(value is None for value in self._get(ids, tables))
            batch = self._batch(raw_mode=True)
            for i, key in enumerate(_keys(ids, tables)):
                batch.put(key, (self._number + i).to_bytes(8, "little") + rows[i].tobytes())
            batch.put(ABOUT, (self._number + len(ids)).to_bytes(8, "little") + self._about)
            self._db.write(batch)
            self._number += len(ids)
            self._count += new
        self._bytes_written += rows.nbytes

    def erase(self, ids: np.ndarray, tables: np.ndarray) -> int:
        with self._lock:
            here = sum(value is not None for value in self._get(ids, tables))
            batch = self._batch(raw_mode=True)
            for key in _keys(ids, tables):
                batch.delete(key)
            self._db.write(batch)
            self._count -= here
        return here

    def scan(self, chunk: int = 65_536) -> Iterator[Chunk]:
        keys, values = [], []
        for key, value in self._db.items():
            if key in (ABOUT, NUMBERS):
                continue
            keys.append(key)
            values.append(value[8:])
            if len(keys) == chunk:
                yield self._chunk(keys, values)
                keys, values = [], []
        if keys:
            yield self._chunk(keys, values)

    def _chunk(self, keys: list[bytes], values: list[bytes]) -> Chunk:
        found = np.frombuffer(b"".join(keys), KEY)
        rows = np.frombuffer(b"".join(values), np.uint8).reshape(-1, self.row_bytes)
        return found["id"].astype(np.int64), found["table"].astype(np.int32), rows

    def _get(self, ids: np.ndarray, tables: np.ndarray) -> list[bytes | None]:
        return list(self._db.get(_keys(ids, tables))) if len(ids) else []

    def __len__(self) -> int:
        return self._count

    def flush(self, numbers: Mapping[str, int] | None = None) -> None:
        if numbers is not None:
            self._db.put(NUMBERS, json.dumps(dict(numbers)).encode())
            self.numbers = dict(numbers)
        self._db.flush_wal(self._sync)
        self._flushes += 1

    def freed_by_flush(self) -> int:
        return 0

    def compact(self) -> None:
        self._db.compact_range(None, None)

    def close(self) -> None:
        if self._db is not None:
            self.flush()
            self._db.close()
            self._db = None

    def stats(self) -> dict[str, int]:
        disk = self._db.property_int_value("rocksdb.total-sst-files-size") or 0
        return {
            "rows": self._count,
            "live_bytes": self._count * (self.row_bytes + 20),
            "disk_bytes": disk,
            "bytes_read": self._bytes_read,
            "bytes_written": self._bytes_written,
            "flushes": self._flushes,
        }


def _keys(ids: np.ndarray, tables: np.ndarray) -> list[bytes]:
    keys = np.empty(len(ids), KEY)
    keys["table"], keys["id"] = tables, ids
    data = keys.tobytes()
    return [data[i : i + KEY.itemsize] for i in range(0, len(data), KEY.itemsize)]


def _rocksdict() -> Any:
    try:
        import rocksdict
    except ImportError as error:
        raise BackendUnavailable(
            "RocksStore needs the package rocksdict. Run pip install recis-core[rocksdict], or use DiskStore."
        ) from error
    return rocksdict
