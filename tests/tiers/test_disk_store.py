"""Disk stores against a dict, through writes, erases, compaction and reopening; and their edges.

RECIS_TEST_FULL=1 runs many more and longer histories.

Sizes: B bytes of a row.
"""

from __future__ import annotations

import errno
import gc
import mmap
import os
import shutil
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from backends.errors import BackendUnavailable, CorruptStorage, StorageInUse
from recis_core.table.disk import DiskStore, disk_store, index
from tests.tiers.disk_stores import B, Key, arrays, contents, open_store, rows_of

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
IDS = st.one_of(st.integers(-30, 30), st.sampled_from([-(2**63), 2**63 - 1, 2**52 + 1, 2**32, -(2**32)]))
KEYS = st.lists(st.tuples(st.sampled_from([0, 1, 2**31 - 1]), IDS), unique=True, max_size=40)
HISTORIES = settings(  # a history that a thread takes part in cannot be shrunk
    phases=[Phase.generate],
    max_examples=200 if FULL else 25, stateful_step_count=200 if FULL else 45, deadline=None, derandomize=True,
    database=None, suppress_health_check=list(HealthCheck), print_blob=False,
)  # fmt: skip


@pytest.fixture(params=["disk", "rocks"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


class StoreMachine(RuleBasedStateMachine):
    """`model` is what the store must hold, `places` where it said each row lay."""

    kind: str

    @initialize()
    def create(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.store = open_store(self.kind, self.directory / "rows")
        self.model: dict[Key, bytes] = {}
        self.places: dict[Key, int] = {}
        self.version = 0

    @rule(keys=KEYS)
    def write(self, keys: list[Key]) -> None:
        self.version += 1
        rows = rows_of(keys, self.version)
        self.store.write(*arrays(keys), rows)
        self.model |= {key: row.tobytes() for key, row in zip(keys, rows, strict=True)}
        places = dict(zip(keys, self.store.find(*arrays(keys)).tolist(), strict=True))
        for key in keys:
            assert places[key] >= 0
            assert places[key] != self.places.get(key)
        self.places |= places

    @rule(keys=KEYS)
    def erase(self, keys: list[Key]) -> None:
        assert self.store.erase(*arrays(keys)) == len(self.model.keys() & set(keys))
        for key in keys:
            self.model.pop(key, None)

    @rule()
    def erase_all(self) -> None:
        self.erase(list(self.model))

    @rule(keys=KEYS)
    def read(self, keys: list[Key]) -> None:
        here, rows = self.store.read(*arrays(keys))
        assert here.dtype == bool
        assert rows.shape == (len(keys), B)
        for key, is_here, row in zip(keys, here.tolist(), rows, strict=True):
            assert is_here == (key in self.model)
            assert row.tobytes() == self.model.get(key, bytes(B))
        assert ((self.store.find(*arrays(keys)) >= 0) == here).all()

    @rule()
    def flush(self) -> None:
        self.store.flush()

    @rule()
    def compact(self) -> None:
        self.store.compact()
        self.scan()

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = open_store(self.kind, self.directory / "rows")
        self.scan()

    @rule()
    def scan(self) -> None:
        assert contents(self.store) == self.model

    @invariant()
    def counts(self) -> None:
        assert len(self.store) == self.store.stats()["rows"] == len(self.model)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.scan()
            self.store.close()
            shutil.rmtree(self.directory)


def test_as_a_dict(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "FIRST_GROUPS", 1)
    run_state_machine_as_test(type("Machine", (StoreMachine,), {"kind": kind}), settings=HISTORIES)


def test_grows_as_a_dict_does(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Partitions from 8 slots on, thousands of keys, erased in turns."""
    monkeypatch.setattr(index, "FIRST_GROUPS", 1)
    store, model, random = open_store(kind, tmp_path), {}, np.random.default_rng(0)
    for turn in range(12):
        keys = [(int(t), int(i)) for t, i in {(i % 3, int(i)) for i in random.integers(-4000, 4000, 1500)}]
        rows = rows_of(keys, turn)
        store.write(*arrays(keys), rows)
        model |= {key: row.tobytes() for key, row in zip(keys, rows, strict=True)}
        gone = keys[:: 1 + turn % 3]
        assert store.erase(*arrays(gone)) == len(gone)
        for key in gone:
            del model[key]
        assert contents(store, 1000) == model
    store.close()
    store = open_store(kind, tmp_path)
    assert contents(store, 1000) == model
    store.close()


def test_a_call_of_nothing(kind: str, tmp_path: Path) -> None:
    store = open_store(kind, tmp_path)
    store.write(*arrays([]), np.zeros((0, B), np.uint8))
    here, rows = store.read(*arrays([]))
    assert (here.shape, rows.shape) == ((0,), (0, B))
    assert store.erase(*arrays([])) == 0
    assert contents(store) == {}
    store.close()
    store.close()


def test_threads_read_whole_rows_while_others_write_and_compact(tmp_path: Path) -> None:
    """A row is read as some write left it, never older than what its reader had seen."""
    store = open_store("disk", tmp_path, segment_bytes=1 << 15)
    keys = [(0, i) for i in range(700)]
    words = np.zeros((len(keys), B // 4), np.uint32)
    store.write(*arrays(keys), words.view(np.uint8))
    with ThreadPoolExecutor(4) as pool:
        ended = threading.Event()
        readers = [pool.submit(_read_until, store, keys, ended) for _ in range(2)]
        flusher = pool.submit(_flush_until, store, ended)
        for version in range(1, 300):
            store.write(*arrays(keys), (words + version).view(np.uint8))
        ended.set()
        assert all(reader.result() > 0 for reader in readers)
        flusher.result()
    store.flush()  # files that were compacted go
    assert store.stats()["compactions"] > 0
    assert store.stats()["dead_bytes"] < 6 * store.stats()["live_bytes"] + 8 * (1 << 15)
    store.close()


def _read_until(store: Any, keys: list[Key], ended: threading.Event) -> int:
    reads, least = 0, 0
    while not ended.is_set():
        here, rows = store.read(*arrays(keys))
        versions = rows.view(np.uint32)
        assert here.all()
        assert (versions == versions[:1]).all()  # one write call is one append
        assert versions[0, 0] >= least
        reads, least = reads + 1, int(versions[0, 0])
    return reads


def _flush_until(store: Any, ended: threading.Event) -> None:
    while not ended.wait(0.005):
        store.flush()


def test_memory_of_the_index(tmp_path: Path) -> None:
    store = open_store("disk", tmp_path, segment_bytes=8 << 20)
    R, N = 1_000_000, 50_000
    for beg in range(0, R, N):
        ids = np.arange(beg, beg + N, dtype=np.int64)
        store.write(ids, np.zeros(N, np.int32), np.ones((N, B), np.uint8))
        assert store.stats()["index_memory_bytes"] <= 3 * len(store) + (1 << 16)
    assert store.stats()["index_memory_bytes"] <= 3 * R
    store.close()


def test_pages_of_files_stay_within_mapped_bytes(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, 256, tag="test", mapped_bytes=4 << 20, sync=False)
    ids, tables, least = np.arange(100_000), np.zeros(100_000, np.int32), _mapped_pages()
    store.write(ids, tables, np.ones((len(ids), 256), np.uint8))
    for beg in range(0, len(ids), 5000):
        part = slice(beg, beg + 5000)
        assert store.read(ids[part], tables[part])[1].all()
        assert _mapped_pages() - least < (12 << 20) // mmap.PAGESIZE
    store.close()


def _mapped_pages() -> int:
    return int(Path("/proc/self/statm").read_text().split()[2])


def test_gives_back_files_threads_and_maps(tmp_path: Path) -> None:
    def held() -> tuple[int, int, int]:
        gc.collect()
        maps = Path("/proc/self/maps").read_text().count(str(tmp_path))
        return len(os.listdir("/proc/self/fd")), threading.active_count(), maps

    before = held()
    for _ in range(2):
        store = open_store("disk", tmp_path)
        for version in range(5):
            keys = [(0, i) for i in range(100)]
            store.write(*arrays(keys), rows_of(keys, version))
            store.read(*arrays(keys))
        store.compact()
        store.close()
        del store
    assert held() == before


def test_many_segments_hold_no_file_open(tmp_path: Path) -> None:
    store = open_store("disk", tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    keys = [(0, i) for i in range(3000)]
    store.write(*arrays(keys), rows_of(keys, 0))
    assert store.stats()["segments"] > 100
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    store.close()


def test_erased_keys_leave_nothing_for_ever(tmp_path: Path) -> None:
    """New ids come and old ones go, beside some that stay in the oldest segment."""
    store = open_store("disk", tmp_path)
    stay = [(1, i) for i in range(200)]
    store.write(*arrays(stay), rows_of(stay, 0))
    for turn in range(60):
        keys = [(0, 1000 * turn + i) for i in range(100)]
        store.write(*arrays(keys), rows_of(keys, turn))
        assert store.erase(*arrays(keys)) == len(keys)
    store.compact()
    assert store.stats()["tombstones"] < 400
    assert store.stats()["segments"] < 30
    assert len(store) == len(stay)
    store.close()
    store = open_store("disk", tmp_path)
    assert contents(store) == {key: row.tobytes() for key, row in zip(stay, rows_of(stay, 0), strict=True)}
    store.close()


def test_one_store_a_directory(tmp_path: Path) -> None:
    store = open_store("disk", tmp_path)
    with pytest.raises(StorageInUse, match=f"is open in process {os.getpid()}"):
        open_store("disk", tmp_path)
    store.close()
    open_store("disk", tmp_path).close()


def test_other_rows_are_refused(tmp_path: Path) -> None:
    open_store("disk", tmp_path).close()
    with pytest.raises(CorruptStorage, match="rows of 20 bytes of 'test'; rows of 24 bytes of 'test' were wanted"):
        DiskStore(tmp_path, 24, tag="test")
    with pytest.raises(CorruptStorage, match="of 'other' were wanted"):
        DiskStore(tmp_path, B, tag="other")


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="row_bytes and threads must be at least 1"):
        DiskStore(tmp_path, 0, tag="test")
    store = open_store("disk", tmp_path)
    ids, tables = arrays([(0, 1)])
    with pytest.raises(ValueError, match=r"ids must be int64 \[N\] and tables int32 \[N\]; got int32 \[1\]"):
        store.find(tables, tables)
    with pytest.raises(ValueError, match="tables must be at least 0; got -1"):
        store.read(ids, tables - 1)
    with pytest.raises(ValueError, match=r"rows must be uint8 \[1, 20\]; got float32"):
        store.write(ids, tables, np.zeros((1, B), np.float32))
    store.close()
    with pytest.raises(ValueError, match="was closed"):
        store.find(ids, tables)


def test_no_compaction_within_a_scan(tmp_path: Path) -> None:
    store = open_store("disk", tmp_path)
    keys = [(0, i) for i in range(100)]
    store.write(*arrays(keys), rows_of(keys, 0))
    scan = store.scan(10)
    next(scan)
    with pytest.raises(RuntimeError, match="End or close the scan first"):
        store.compact()
    scan.close()
    store.compact()
    store.close()


def test_rows_that_were_not_flushed_are_gone_after_a_crash(tmp_path: Path) -> None:
    store = open_store("disk", tmp_path / "a")
    keys = [(0, i) for i in range(60)]
    store.write(*arrays(keys), rows_of(keys, 0))
    store.flush()
    store.write(*arrays(keys), rows_of(keys, 1))
    store.erase(*arrays(keys[:5]))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    store.close()
    store = open_store("disk", tmp_path / "b")
    assert len(list((tmp_path / "b").glob("segment-*"))) == store.stats()["segments"]
    assert contents(store) == {key: row.tobytes() for key, row in zip(keys, rows_of(keys, 0), strict=True)}
    store.close()


def test_a_failed_disk_takes_no_more_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync says once that pages were lost, and then that all is well."""
    store = open_store("disk", tmp_path, sync=True)
    keys = [(0, i) for i in range(60)]
    store.write(*arrays(keys), rows_of(keys, 0))
    store.flush()
    store.write(*arrays(keys), rows_of(keys, 1))
    with monkeypatch.context() as patched:
        patched.setattr(disk_store, "sync_file", _fail)
        with pytest.raises(OSError, match="Input/output error"):
            store.flush()
    for call in (store.flush, lambda: store.write(*arrays(keys), rows_of(keys, 2)), store.close):
        with pytest.raises(OSError, match="the disk failed in a flush"):
            call()
    store = open_store("disk", tmp_path)
    assert contents(store) == {key: row.tobytes() for key, row in zip(keys, rows_of(keys, 0), strict=True)}
    store.close()


def _fail(path: Path) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_rocks_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rocksdict", None)
    with pytest.raises(BackendUnavailable, match=r"pip install recis-core\[rocksdict\]"):
        open_store("rocks", tmp_path)


def test_rows_written_and_erased_while_they_are_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the compaction's read of a row and its append of it."""
    store = open_store("disk", tmp_path, compact_below=0)
    keys = [(0, i) for i in range(72)]
    store.write(*arrays(keys), rows_of(keys, 0))
    store.erase(*arrays(keys[::3]))
    read, now = store._reader.read, [0]

    def read_and_be_late(*args: Any) -> np.ndarray:
        rows = read(*args)
        if threading.current_thread() is threading.main_thread() and now[0] < 3:
            now[0] += 1
            part = keys[24 * now[0] - 24 : 24 * now[0]]
            store.write(*arrays(part[::3]), rows_of(part[::3], 1))  # erased before
            store.write(*arrays(part[1::3]), rows_of(part[1::3], 1))
            store.erase(*arrays(part[2::3]))
        return rows

    monkeypatch.setattr(store._reader, "read", read_and_be_late)
    store._compactor._below = 0.9
    store.compact()
    monkeypatch.undo()
    assert now[0] == 3
    kept = [key for key in keys if key[1] % 3 != 2]
    expected = {key: row.tobytes() for key, row in zip(kept, rows_of(kept, 1), strict=True)}
    assert contents(store) == expected
    store.close()
    store = open_store("disk", tmp_path)
    assert contents(store) == expected
    store.close()


def test_a_moved_tombstone_hides_what_is_older_and_nothing_newer(tmp_path: Path) -> None:
    """
    segment 1   24 rows, of which 21 stay in use
            2   18 rows that are written again, and tombstones of six rows of segment 1; compacted
            3   the 18 rows, and three of the six
    """
    store = open_store("disk", tmp_path)
    old, others = [(0, i) for i in range(24)], [(1, i) for i in range(18)]
    store.write(*arrays(old), rows_of(old, 0))
    store.write(*arrays(others), rows_of(others, 0))
    store.erase(*arrays(old[:6]))
    expected = dict(zip(old[6:], rows_of(old[6:], 0), strict=True))
    for keys in (others, old[:3]):
        store.write(*arrays(keys), rows_of(keys, 1))
        expected |= dict(zip(keys, rows_of(keys, 1), strict=True))
    store.compact()
    assert not (tmp_path / "segment-00000002.rows").exists()
    assert (tmp_path / "segment-00000001.rows").exists()
    for _ in range(2):
        assert contents(store) == {key: row.tobytes() for key, row in expected.items()}
        store.close()
        store = open_store("disk", tmp_path)
    store.close()
