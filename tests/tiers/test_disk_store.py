"""Disk stores against a dict, through writes, erases, compaction and reopening; and their edges.

RECIS_TEST_FULL=1 runs longer histories, and of a store whose index is in memory 10^5 steps instead of 10^3.

Sizes: B bytes of a row.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from recis_core.backends.errors import BackendUnavailable, CorruptStorage, StorageInUse
from recis_core.table.disk import DiskStore, disk_index, disk_store
from recis_core.table.disk.mapping import PAGE
from recis_core.table.disk.segment import rows_within
from tests.machines import CountedMachine, run_steps
from tests.tiers.disk_stores import INDEXES, MAPPED, B, Key, arrays, contents, open_store, rows_of

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
IDS = st.one_of(st.integers(-30, 30), st.sampled_from([-(2**63), 2**63 - 1, 2**52 + 1, 2**32, -(2**32)]))
KEYS = st.lists(st.tuples(st.sampled_from([0, 1, 2**20 - 1]), IDS), unique=True, max_size=40)
HISTORIES = settings(  # a history that a thread takes part in cannot be shrunk
    phases=[Phase.generate],
    stateful_step_count=200 if FULL else 45, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck), print_blob=False,
)  # fmt: skip


each_kind = pytest.mark.parametrize("kind", ["disk", "rocks"])
each_index = pytest.mark.parametrize(
    ("kind", "options"),
    [
        *(pytest.param("disk", {"index_bytes": size}, id=name) for name, size in INDEXES.items()),
        *(pytest.param("disk", {"mapped_bytes": size}, id=name) for name, size in MAPPED.items()),
        ("rocks", {}),
    ],
)
MAIN = {"index_bytes": INDEXES["in memory"]}
STEPS = (100, 5_000), (1_000, 100_000)  # of other options, and of MAIN; in a run, and in full


class StoreMachine(CountedMachine):
    """`model` is what the store must hold, `places` where it said each row lay."""

    kind: str
    options: dict[str, int]

    @initialize()
    def create(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.store = open_store(self.kind, self.directory / "rows", **self.options)
        self.model: dict[Key, bytes] = {}
        self.places: dict[Key, int] = {}
        self.version, self.numbers = 0, {}

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

    @rule(numbered=st.booleans())
    def flush(self, numbered: bool) -> None:
        if numbered:
            self.numbers = {"version": self.version}
        self.store.flush(self.numbers if numbered else None)

    @rule()
    def compact(self) -> None:
        self.store.compact()
        self.scan()

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = open_store(self.kind, self.directory / "rows", **self.options)
        self.scan()

    @precondition(lambda self: self.kind == "disk")
    @rule()
    def index_to_disk(self) -> None:
        with self.store._lock:
            self.store._index.to_disk()

    @rule()
    def scan(self) -> None:
        assert contents(self.store) == self.model

    @invariant()
    def counts(self) -> None:
        assert len(self.store) == self.store.stats()["rows"] == len(self.model)
        assert self.store.numbers == self.numbers

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.scan()
            self.store.close()
            shutil.rmtree(self.directory)


@each_index
@pytest.mark.timeout(1800)
def test_as_a_dict(kind: str, options: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_index, "FIRST_GROUPS", 1)
    machine = type("Machine", (StoreMachine,), {"kind": kind, "options": options})
    wanted = STEPS[options == MAIN][FULL]
    assert run_steps(machine, wanted, HISTORIES) >= wanted


@each_index
def test_grows_as_a_dict_does(
    kind: str, options: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Partitions from 8 slots on, to more than share their first page of entries; keys erased in turns."""
    monkeypatch.setattr(disk_index, "FIRST_GROUPS", 1)
    options = {**options, "segment_bytes": 1 << 16} if kind == "disk" else options
    store, model, random = open_store(kind, tmp_path, **options), {}, np.random.default_rng(0)
    for turn in range(12 if "index_bytes" in options else 4):  # others have the same index
        keys = [(int(t), int(i)) for t, i in {(i % 3, int(i)) for i in random.integers(-40_000, 40_000, 6000)}]
        rows = rows_of(keys, turn)
        store.write(*arrays(keys), rows)
        model |= {key: row.tobytes() for key, row in zip(keys, rows, strict=True)}
        gone = keys[:: 2 + turn % 3]
        assert store.erase(*arrays(gone)) == len(gone)
        for key in gone:
            del model[key]
        if turn % 4 == 3:
            assert contents(store, 1000) == model
    if kind == "disk":
        assert (store.stats()["index_disk_bytes"] > 0) == (options.get("index_bytes", 3 << 30) <= 1 << 19)
    store.close()
    store = open_store(kind, tmp_path, **options)
    assert contents(store, 1000) == model
    store.close()


@each_kind
def test_a_call_of_nothing(kind: str, tmp_path: Path) -> None:
    store = open_store(kind, tmp_path)
    store.write(*arrays([]), np.zeros((0, B), np.uint8))
    here, rows = store.read(*arrays([]))
    assert (here.shape, rows.shape) == ((0,), (0, B))
    assert store.erase(*arrays([])) == 0
    assert contents(store) == {}
    store.close()
    store.close()


def test_bytes_on_disk(tmp_path: Path) -> None:
    """A row takes B + 16, of which its key 12 and its check 4; a tombstone a key."""
    store = open_store("disk", tmp_path, segment_bytes=1 << 20)
    keys = [(0, i) for i in range(1000)]
    store.write(*arrays(keys), rows_of(keys, 0))
    path = tmp_path / "segment-00000001.rows"
    begin = path.stat().st_size - 1000 * (B + 4)
    assert begin % PAGE == 0
    assert begin - PAGE >= 12 * rows_within(1 << 20, B)
    assert begin + rows_within(1 << 20, B) * (B + 4) <= 1 << 20
    store.erase(*arrays(keys[:100]))
    assert path.stat().st_size == begin + 1100 * (B + 4)
    stats = store.stats()
    assert stats["live_bytes"] == 900 * (B + 16)
    assert stats["disk_bytes"] == PAGE + 1000 * (B + 16) + 100 * 12
    assert stats["dead_bytes"] == PAGE + 100 * (B + 16) + 100 * 12
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
    with pytest.raises(ValueError, match="tables must be at least 0 and at most 1,048,575, .* got -1 to -1"):
        store.read(ids, tables - 1)
    with pytest.raises(ValueError, match="tables must be at least 0 and at most 1,048,575, .* got 1048576 to 1048576"):
        store.write(ids, tables + 2**20, rows_of([(2**20, 1)], 0))
    with pytest.raises(ValueError, match=r"rows must be uint8 \[1, 20\]; got float32"):
        store.write(ids, tables, np.zeros((1, B), np.float32))
    store.close()
    with pytest.raises(ValueError, match="was closed"):
        store.find(ids, tables)


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


@each_kind
def test_numbers_are_kept_with_a_flush(kind: str, tmp_path: Path) -> None:
    """Also where no row was written since the last."""
    store = open_store(kind, tmp_path / "a")
    assert store.numbers == {}
    store.flush({"step": 7, "tick": 2**40})
    store.flush({"step": 8})
    store.flush()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    store.close()
    for copy in "ab":
        store = open_store(kind, tmp_path / copy)
        assert store.numbers == {"step": 8}
        store.close()


def test_a_manifest_of_before_there_were_numbers(tmp_path: Path) -> None:
    store = open_store("disk", tmp_path)
    store.write(*arrays([(0, 1)]), rows_of([(0, 1)], 0))
    store.close()
    facts = json.loads((tmp_path / "manifest.json").read_text())
    del facts["numbers"], facts["xxh3"]
    facts["xxh3"] = xxhash.xxh3_64_hexdigest(json.dumps(facts, sort_keys=True).encode())
    (tmp_path / "manifest.json").write_text(json.dumps(facts))
    store = open_store("disk", tmp_path)
    assert (len(store), store.numbers) == (1, {})
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
