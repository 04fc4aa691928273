"""A full disk, a small tmpfs or calls that say so: StorageFull, nothing lost, and on it goes once there is space."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recis_core.backends.errors import StorageFull
from recis_core.table.disk import DiskStore, disk_index
from tests.tiers.disk_stores import INDEXES, Key, arrays, contents, open_store, rows_of

MIB = 1 << 20
State = dict[Key, bytes]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Of 8 MiB."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mount of a tmpfs needs root: {mounted.stderr.decode().strip()}")
    yield tmp_path
    if subprocess.run(["umount", str(tmp_path)], check=False).returncode:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)  # one left behind disturbs later runs
        pytest.fail(f"{tmp_path} is in use: a store has not given back its files")


class Ballast:
    """A file that takes what space there is, and gives it back."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "ballast"

    def take(self, leave: int = 0) -> None:
        found = os.statvfs(self.path.parent)
        size = found.f_bavail * found.f_frsize - leave
        with self.path.open("ab") as file:
            if size > 0:
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)

    def give_back(self) -> None:
        self.path.unlink()


def put(store: Any, model: State, keys: list[Key], version: int) -> None:
    rows = rows_of(keys, version)
    store.write(*arrays(keys), rows)
    model |= {key: row.tobytes() for key, row in zip(keys, rows, strict=True)}


def whole(store: Any, model: State) -> bool:
    """Through reads, which no compaction disturbs."""
    here, rows = store.read(*arrays(list(model)))
    return len(store) == len(model) and here.all() and [row.tobytes() for row in rows] == list(model.values())


def test_a_write_finds_the_disk_full(small_disk: Path) -> None:
    store, model, ballast = open_store("disk", small_disk / "rows", segment_bytes=MIB), {}, Ballast(small_disk)
    ballast.take(leave=4 * MIB)
    number = 0
    with suppress(StorageFull):
        while True:
            put(store, model, [(0, 300 * number + i) for i in range(300)], number)
            number += 1
    assert number > 10
    assert whole(store, model)
    again = [(0, 300 * number + i) for i in range(300)]
    with pytest.raises(
        StorageFull, match=r"needs [\d,]+ bytes more; its disk has [\d,]+ free .* Free space and call again"
    ):
        put(store, model, again, number)
    assert not store.read(*arrays(again))[0].any()
    ballast.give_back()
    put(store, model, again, number)
    assert whole(store, model)
    store.close()
    store = open_store("disk", small_disk / "rows")
    assert contents(store, 5000) == model
    store.close()


@pytest.mark.parametrize("index_bytes", [0, 1 << 19])
def test_the_index_finds_the_disk_full(small_disk: Path, index_bytes: int) -> None:
    """Rows of a byte: the index needs more than they. It is on disk, or on its way there."""
    path, ballast = small_disk / "rows", Ballast(small_disk)
    store = DiskStore(path, 1, tag="test", segment_bytes=4 * MIB, index_bytes=index_bytes)
    N = 20_000
    ids, tables, rows = np.arange(N), np.zeros(N, np.int32), np.ones((N, 1), np.uint8)
    store.write(ids, tables, rows)
    on_disk = store.stats()["index_disk_bytes"]
    assert (on_disk > 0) == (index_bytes == 0)
    ballast.take(leave=MIB * 3 // 8)
    with pytest.raises(StorageFull, match="/rows/index needs"):
        store.write(ids + N, tables, rows)
    assert store.stats()["index_disk_bytes"] == on_disk
    assert (store.find(ids + N, tables) == -1).all()
    assert store.read(ids, tables)[1].all()
    ballast.give_back()
    store.write(ids + N, tables, rows)
    assert store.stats()["index_disk_bytes"] > on_disk
    assert len(store) == 2 * N
    assert store.read(np.arange(2 * N), np.zeros(2 * N, np.int32))[1].all()
    store.close()


def test_a_flush_finds_the_disk_full(small_disk: Path) -> None:
    """It has space in reserve, until that is gone too."""
    store, model, ballast = open_store("disk", small_disk / "rows", segment_bytes=MIB), {}, Ballast(small_disk)
    put(store, model, [(0, i) for i in range(10)], 0)
    store.flush()
    put(store, model, [(0, i) for i in range(10)], 1)
    ballast.take()
    store.flush()
    put(store, model, [(0, i) for i in range(10)], 2)
    (small_disk / "rows" / "reserve").unlink()
    ballast.take()
    for call in (store.flush, store.close):
        with pytest.raises(StorageFull, match=r"manifest.json.writing needs"):
            call()
    with pytest.raises(StorageFull):
        store.flush({"step": 1})
    assert store.numbers == {}
    assert whole(store, model)
    ballast.give_back()
    store.close()
    store = open_store("disk", small_disk / "rows")
    assert contents(store) == model
    store.close()


def test_erasing_gives_space_back_on_a_full_disk(small_disk: Path) -> None:
    store, model, ballast = open_store("disk", small_disk / "rows", segment_bytes=MIB // 4), {}, Ballast(small_disk)
    keys = [(0, i) for i in range(20_000)]
    put(store, model, keys, 0)
    ballast.take()
    again = [(0, i) for i in range(30_000, 40_000)]
    with pytest.raises(StorageFull):
        put(store, model, again, 0)
    assert store.erase(*arrays(keys[:15_000])) == 15_000
    for key in keys[:15_000]:
        del model[key]
    for _ in range(3):  # each lets the next have more space
        store.flush()
        store.compact()
    put(store, model, again, 0)
    store.close()
    store = open_store("disk", small_disk / "rows")
    assert contents(store, 5000) == model
    store.close()


def test_compaction_finds_the_disk_full(small_disk: Path) -> None:
    store, model = open_store("disk", small_disk / "rows", segment_bytes=MIB, compact_below=0), {}
    ballast = Ballast(small_disk)
    put(store, model, [(0, i) for i in range(50_000)], 0)
    put(store, model, [(0, i) for i in range(0, 50_000, 3)], 1)
    ballast.take()
    store._compactor._below = 0.9  # not before, or its thread would have been faster
    with pytest.raises(StorageFull):
        store.compact()
    assert whole(store, model)
    ballast.give_back()
    store.compact()
    assert contents(store, 5000) == model
    assert store.stats()["compactions"] > 0
    store.close()


class FullAt:
    """The calls that take space; from the `call`-th on, for as long as it is set, they find none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls, self.call = 0, None
        for name in ("pwrite", "posix_fallocate", "ftruncate"):
            monkeypatch.setattr(os, name, self._wrapped(getattr(os, name)))
        monkeypatch.setattr(Path, "open", self._wrapped(Path.open))

    def _wrapped(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if isinstance(args[0], Path) and args[1:2] != ("w",):
                return original(*args, **options)
            self.calls += 1
            if self.call is not None and self.calls > self.call:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return original(*args, **options)

        return call


@pytest.mark.parametrize("index_bytes", INDEXES.values(), ids=INDEXES)
def test_any_call_may_find_the_disk_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index_bytes: int) -> None:
    """Each operation of a history fails at its first place, its second, …, changes nothing, and then succeeds."""
    monkeypatch.setattr(disk_index, "FIRST_GROUPS", 1)
    full = FullAt(monkeypatch)
    store, model, failures = open_store("disk", tmp_path, index_bytes=index_bytes), {}, 0
    random = np.random.default_rng(0)
    for turn in range(25):
        keys = [(int(i) % 2, int(i)) for i in random.choice(2000, 150, replace=False)]
        failures += _until_it_succeeds(
            full, store, model, lambda k=keys, t=turn: store.write(*arrays(k), rows_of(k, t))
        )
        model |= {key: row.tobytes() for key, row in zip(keys, rows_of(keys, turn), strict=True)}
        gone = keys[::3]
        failures += _until_it_succeeds(full, store, model, lambda k=gone: store.erase(*arrays(k)))
        for key in gone:
            del model[key]
        failures += _until_it_succeeds(full, store, model, store.compact if turn % 5 == 4 else store.flush)
        if turn == 12:
            moves = _until_it_succeeds(full, store, model, lambda: _to_disk(store))
            assert (moves > 1) == (index_bytes > 0)
        assert whole(store, model)
    store.close()
    store = open_store("disk", tmp_path)
    assert contents(store) == model
    assert failures > 500
    store.close()


def _to_disk(store: Any) -> None:
    with store._lock:
        store._index.to_disk()


def _until_it_succeeds(full: FullAt, store: Any, model: State, call: Callable[[], Any]) -> int:
    """How often it failed, each time one place later."""
    for failures in range(1000):
        full.calls, full.call = 0, failures
        try:
            call()
        except StorageFull:
            full.call = None
            assert whole(store, model)
        else:
            full.call = None
            return failures
    raise AssertionError("it never succeeds")


def test_the_background_thread_waits_for_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it finds the disk full nobody hears of it, and the next flush lets it try again."""
    full, keys = FullAt(monkeypatch), [(0, i) for i in range(2000)]
    store, model = open_store("disk", tmp_path, compact_below=0), {}
    put(store, model, keys, 0)
    put(store, model, keys[::3], 1)
    full.calls, full.call, store._compactor._below = 0, 0, 0.9
    store._compactor.look()
    _wait(lambda: store._compactor._postponed)
    assert whole(store, model)
    assert store.stats()["compactions"] == 0
    full.call = None
    store.flush()
    _wait(lambda: store.stats()["compactions"] > 0)
    assert whole(store, model)
    store.close()


def _wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not until():
        assert time.monotonic() < end
        time.sleep(0.01)
