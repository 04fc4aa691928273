"""Rows on disk: our store beside rocksdict and lmdb, and what a row costs as a table grows.

    python -m recis_core.bench.disk                     stores beside one another, 1M rows
    python -m recis_core.bench.disk --growth 10_000_000 our store alone, from 100,000 rows on, times ten

Answers are compared before anything is timed, and stores take turns. No store waits for the disk within a write; ours
checksums every row, rocksdict logs every write ahead, lmdb does neither. Cold is after each store's files were dropped
from the page cache, and `disk_read_bytes` tells whether they were.

Sizes: R rows of a table, N of a batch, B bytes of a row.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.bench import rows as result_rows
from recis_core.bench.provenance import provenance
from recis_core.table.disk import DiskStore

COLUMNS = ("store", "op", "warm", "row_bytes", "ms", "ms_min", "rows_per_s", "over_rocksdict", "disk_read_bytes")
GROWTH_COLUMNS = (
    "rows", "insert_us", "read_us", "write_us", "anon_bytes_peak", "file_bytes_peak", "index_memory_bytes_a_row",
    "index_disk_bytes_a_row", "disk_bytes_a_row", "open_s",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DiskConfig:
    """Rows on disk."""

    rows: Annotated[int, Field(ge=1)] = 1_000_000
    batch: Annotated[int, Field(ge=1)] = 10_000
    row_bytes: tuple[int, ...] = (80, 256)
    repeats: Annotated[int, Field(ge=1)] = 30
    cold_repeats: Annotated[int, Field(ge=0)] = 3
    growth: Annotated[int, Field(ge=100_000)] | None = None
    """Instead: our store alone, up to so many rows."""
    index_bytes: Annotated[int, Field(ge=0)] = 3 << 30
    """Of memory, with --growth; 0 keeps the index on disk."""
    directory: str | None = None
    """On the disk to measure; the default is that of temporary files."""
    seed: int = 0
    out: str | None = None
    """Append result rows to this JSON Lines file."""


def run(argv: list[str]) -> int:
    config = tyro.cli(DiskConfig, args=argv, prog="python -m recis_core.bench.disk")
    facts = {"bench": "disk", "batch": config.batch, **provenance(config.seed)}
    if config.growth is not None:
        facts["index_bytes"] = config.index_bytes
        found = [facts | row for row in growth(config)]
        result_rows.show(found, GROWTH_COLUMNS, f"our store, rows of {config.row_bytes[0]} bytes: costs a touched row")
    else:
        found = [facts | row for row in stores(config)]
        result_rows.show(found, COLUMNS, f"{config.rows:,} rows, batches of {config.batch:,}")
    result_rows.write(found, config.out)
    return 0


class Ours:
    name = "recis disk"

    def __init__(self, path: Path, row_bytes: int) -> None:
        self._store = DiskStore(path, row_bytes, tag="bench")
        self.read = self._read
        self.close = self._store.close
        self.flush = self._store.flush

    def _read(self, ids: np.ndarray) -> np.ndarray:
        here, rows = self._store.read(ids, np.zeros(len(ids), np.int32))
        return rows if here.all() else rows[here]

    def write(self, ids: np.ndarray, rows: np.ndarray) -> None:
        self._store.write(ids, np.zeros(len(ids), np.int32), rows)


def _keys(ids: np.ndarray) -> list[bytes]:
    data = ids.tobytes()
    return [data[i : i + 8] for i in range(0, len(data), 8)]


class Rocks:
    """Bare rocksdict: no count of rows, no versions."""

    name = "rocksdict"

    def __init__(self, path: Path, row_bytes: int) -> None:
        import rocksdict

        self._db, self._row_bytes = rocksdict.Rdict(str(path), rocksdict.Options(raw_mode=True)), row_bytes
        self._batch = rocksdict.WriteBatch
        self.close = self._db.close

    def read(self, ids: np.ndarray) -> np.ndarray:
        return np.frombuffer(b"".join(self._db.get(_keys(ids))), np.uint8).reshape(-1, self._row_bytes)

    def write(self, ids: np.ndarray, rows: np.ndarray) -> None:
        batch, data = self._batch(raw_mode=True), rows.tobytes()
        for i, key in enumerate(_keys(ids)):
            batch.put(key, data[i * self._row_bytes : (i + 1) * self._row_bytes])
        self._db.write(batch)

    def flush(self) -> None:
        self._db.flush()


class Lmdb:
    name = "lmdb"

    def __init__(self, path: Path, row_bytes: int) -> None:
        import lmdb

        self._env = lmdb.open(str(path), map_size=1 << 40, sync=False, metasync=False, readahead=False)
        self._row_bytes = row_bytes
        self.close = self._env.close

    def read(self, ids: np.ndarray) -> np.ndarray:
        with self._env.begin(buffers=True) as txn:
            values = b"".join(value for _, value in txn.cursor().getmulti(_keys(ids)))
        return np.frombuffer(values, np.uint8).reshape(-1, self._row_bytes)

    def write(self, ids: np.ndarray, rows: np.ndarray) -> None:
        data, B = rows.tobytes(), self._row_bytes
        with self._env.begin(write=True) as txn:
            txn.cursor().putmulti([(key, data[i * B : (i + 1) * B]) for i, key in enumerate(_keys(ids))])

    def flush(self) -> None:
        self._env.sync(True)


STORES = (Ours, Rocks, Lmdb)


def ids_of(numbers: np.ndarray) -> np.ndarray:
    """Rows by number, 0 to R: distinct ids without order (splitmix64)."""
    h = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (h ^ (h >> np.uint64(31))).astype(np.int64)


def rows_of(numbers: np.ndarray, row_bytes: int, version: int = 0) -> np.ndarray:
    words = np.arange((row_bytes + 7) // 8) + version
    return np.ascontiguousarray((ids_of(numbers)[:, None] + words).view(np.uint8)[:, :row_bytes])


def stores(config: DiskConfig) -> list[dict[str, Any]]:
    """Rows {store, op, warm, rows_per_s, …} of ours, rocksdict and lmdb; both must be installed."""
    found = []
    for row_bytes in config.row_bytes:
        with tempfile.TemporaryDirectory(dir=config.directory) as folder:
            case = Case(Path(folder), row_bytes, config)
            case.fill()
            found += case.warm() + (case.cold() if config.cold_repeats else [])
    return found


class Case:
    """One row size; every store has the same rows."""

    def __init__(self, folder: Path, row_bytes: int, config: DiskConfig) -> None:
        self.folder, self.B, self.config = folder, row_bytes, config
        self.random = np.random.default_rng(config.seed)
        self.version = np.zeros(config.rows, np.int64)

    @contextmanager
    def opened(self) -> Iterator[list[Any]]:
        with ExitStack() as stack:
            found = []
            for store in STORES:
                found.append(store(self.folder / store.name.replace(" ", "-"), self.B))
                stack.callback(found[-1].close)
            yield found

    def fill(self) -> None:
        with self.opened() as opened:
            for beg in range(0, self.config.rows, self.config.batch):
                numbers = np.arange(beg, min(beg + self.config.batch, self.config.rows))
                for store in opened:
                    store.write(ids_of(numbers), rows_of(numbers, self.B))
            for store in opened:
                store.flush()

    def batch(self) -> np.ndarray:
        return self.random.choice(self.config.rows, min(self.config.batch, self.config.rows), replace=False)

    def warm(self) -> list[dict[str, Any]]:
        times: dict[tuple[str, str], list[float]] = {}
        with self.opened() as opened:
            self.check(opened)
            for turn in range(3 + self.config.repeats):  # three warm up
                for name, op, seconds in self.turn(opened):
                    if turn >= 3:
                        times.setdefault((name, op), []).append(seconds)
            self.check(opened)
        return self.summary(times, warm=True, disk_read={})

    def cold(self) -> list[dict[str, Any]]:
        times: dict[tuple[str, str], list[float]] = {}
        read: dict[tuple[str, str], int] = {}
        for _ in range(self.config.cold_repeats):
            for op in ("read", "write"):
                drop_cache(self.folder)
                with self.opened() as opened:
                    before = disk_read_bytes()
                    for name, _, seconds in self.turn(opened, (op,)):
                        times.setdefault((name, op), []).append(seconds)
                        read[name, op], before = disk_read_bytes() - before, disk_read_bytes()
        return self.summary(times, warm=False, disk_read=read)

    def turn(self, opened: list[Any], ops: tuple[str, ...] = ("read", "write")) -> Iterator[tuple[str, str, float]]:
        """One batch through every store: what it took."""
        numbers = self.batch()
        ids, version = ids_of(numbers), int(self.version.max()) + 1
        rows = rows_of(numbers, self.B, version)
        for op in ops:
            for store in opened:
                start = time.perf_counter()
                store.read(ids) if op == "read" else store.write(ids, rows)
                yield store.name, op, time.perf_counter() - start
        if "write" in ops:
            self.version[numbers] = version

    def check(self, opened: list[Any]) -> None:
        numbers = self.batch()
        expected = np.concatenate([rows_of(numbers[i : i + 1], self.B, self.version[n]) for i, n in enumerate(numbers)])
        for store in opened:
            np.testing.assert_array_equal(store.read(ids_of(numbers)), expected, err_msg=store.name)

    def summary(
        self, times: dict[tuple[str, str], list[float]], *, warm: bool, disk_read: dict[tuple[str, str], int]
    ) -> list[dict[str, Any]]:
        N = min(self.config.batch, self.config.rows)
        medians = {key: statistics.median(seconds) for key, seconds in times.items()}
        return [
            {
                "store": name, "version": None if name == Ours.name else importlib.metadata.version(name),
                "op": op, "warm": warm, "rows": self.config.rows, "row_bytes": self.B,
                "ms": 1e3 * medians[name, op], "ms_min": 1e3 * min(times[name, op]),
                "rows_per_s": N / medians[name, op], "over_rocksdict": medians[Rocks.name, op] / medians[name, op],
                "disk_read_bytes": disk_read.get((name, op)), "repeats": len(times[name, op]),
            }
            for name, op in times
        ]  # fmt: skip


def drop_cache(folder: Path) -> None:
    """Of the files of closed stores alone: other processes keep their pages."""
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def disk_read_bytes() -> int:
    return _number_in("/proc/self/io", "read_bytes")


def _number_in(path: str, name: str) -> int:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise KeyError(name)


def growth(config: DiskConfig) -> list[dict[str, Any]]:
    """Of our store at 100,000 rows, and at each ten times as many up to `growth`: a touched row's costs, and a row's."""
    found, at, size, row_bytes, batch = [], 0, 100_000, config.row_bytes[0], config.batch
    with tempfile.TemporaryDirectory(dir=config.directory) as folder:
        store = DiskStore(folder, row_bytes, tag="bench", index_bytes=config.index_bytes)
        memory = Memory()
        while size <= (config.growth or 0):
            start = time.perf_counter()
            for beg in range(at, size, batch):
                numbers = np.arange(beg, min(beg + batch, size))
                store.write(ids_of(numbers), np.zeros(len(numbers), np.int32), rows_of(numbers, row_bytes))
                memory.look()
            insert = (time.perf_counter() - start) / (size - at)
            store.flush()
            costs = _costs(store, size, row_bytes, batch, memory)
            store.close()
            start = time.perf_counter()
            store = DiskStore(folder, row_bytes, tag="bench", index_bytes=config.index_bytes)
            opened = time.perf_counter() - start
            found.append({"rows": size, "insert_us": 1e6 * insert, **costs, **memory.peaks(), "open_s": opened})
            print(json.dumps(found[-1]), file=sys.stderr, flush=True)
            at, size = size, size * 10
        store.close()
    return found


def _costs(store: DiskStore, size: int, row_bytes: int, batch: int, memory: Memory) -> dict[str, float]:
    random, stats = np.random.default_rng(size), store.stats()
    tables = np.zeros(batch, np.int32)
    times: dict[str, list[float]] = {"read_us": [], "write_us": []}
    for turn in range(40):
        numbers = np.unique(random.integers(0, size, batch))
        ids, rows = ids_of(numbers), rows_of(numbers, row_bytes)
        for name, call in _calls(store, ids, tables[: len(ids)], rows):
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) / len(ids))
            memory.look()
        if turn == 0:
            np.testing.assert_array_equal(store.read(ids, tables[: len(ids)])[1], rows)
    return {
        "row_bytes": row_bytes,
        **{name: 1e6 * statistics.median(seconds) for name, seconds in times.items()},
        "index_memory_bytes_a_row": stats["index_memory_bytes"] / size,
        "index_disk_bytes_a_row": stats["index_disk_bytes"] / size,
        "disk_bytes_a_row": stats["disk_bytes"] / size,
    }


def _calls(
    store: DiskStore, ids: np.ndarray, tables: np.ndarray, rows: np.ndarray
) -> list[tuple[str, Callable[[], Any]]]:
    return [("read_us", lambda: store.read(ids, tables)), ("write_us", lambda: store.write(ids, tables, rows))]


class Memory:
    """Most memory of this process beyond what it had: its own, and pages of files."""

    def __init__(self) -> None:
        self._before = self._now()
        self._most = dict(self._before)

    def look(self) -> None:
        for name, value in self._now().items():
            self._most[name] = max(self._most[name], value)

    def peaks(self) -> dict[str, int]:
        return {f"{name}_bytes_peak": self._most[name] - self._before[name] for name in self._most}

    def _now(self) -> dict[str, int]:
        kib = {"anon": "RssAnon", "file": "RssFile"}
        return {name: 1024 * _number_in("/proc/self/status", field) for name, field in kib.items()}


if __name__ == "__main__":
    raise SystemExit(run(sys.argv[1:]))
