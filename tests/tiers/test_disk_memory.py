"""What a disk store takes of memory, files and threads, and that it gives them back."""

from __future__ import annotations

import gc
import mmap
import os
import resource
import threading
from pathlib import Path

import numpy as np
import pytest

from recis_core.table.disk import DiskStore, rows_view
from tests.tiers.disk_stores import B, arrays, open_store, rows_of


@pytest.mark.parametrize(("index_bytes", "memory", "disk"), [(0, 3, 29), (3 << 30, 32, 0)])
def test_bytes_of_the_index(tmp_path: Path, index_bytes: int, memory: int, disk: int) -> None:
    store = open_store("disk", tmp_path, segment_bytes=8 << 20, index_bytes=index_bytes)
    R, N = 1_000_000, 50_000
    for beg in range(0, R, N):
        ids = np.arange(beg, beg + N, dtype=np.int64)
        store.write(ids, np.zeros(N, np.int32), np.ones((N, B), np.uint8))
        stats = store.stats()
        assert stats["index_memory_bytes"] <= memory * max(len(store), N * 2)
        assert stats["index_disk_bytes"] <= disk * max(len(store), N * 2)
    before = stats
    store.close()
    store = open_store("disk", tmp_path, segment_bytes=8 << 20, index_bytes=index_bytes)
    for name in ("index_memory_bytes", "index_disk_bytes"):
        assert store.stats()[name] <= 1.1 * before[name]
    store.close()


def test_an_index_that_outgrows_its_memory_gives_it_back(tmp_path: Path) -> None:
    store, N = open_store("disk", tmp_path, segment_bytes=8 << 20, index_bytes=40 << 20), 100_000
    for beg in range(0, 3_000_000, N):
        before = store.stats()
        store.write(np.arange(beg, beg + N), np.zeros(N, np.int32), np.ones((N, B), np.uint8))
    assert before["index_disk_bytes"] > 0
    assert before["index_memory_bytes"] < 3 * len(store)
    store.close()


@pytest.mark.parametrize("handles", [512, 1, 0])
def test_pages_of_files_stay_within_mapped_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handles: int) -> None:
    """Read by system calls, or by maps where there are more files than handles for them."""
    monkeypatch.setattr(rows_view, "HANDLES", handles)
    store = DiskStore(tmp_path, 256, tag="test", segment_bytes=10 << 20, mapped_bytes=4 << 20, sync=False)
    ids, tables, least = np.arange(100_000), np.zeros(100_000, np.int32), _mapped_pages()
    rows = np.random.default_rng(0).integers(0, 256, (len(ids), 256), np.uint8)
    store.write(ids, tables, rows)
    for beg in range(0, len(ids), 5000):
        part = slice(beg, beg + 5000)
        np.testing.assert_array_equal(store.read(ids[part], tables[part])[1], rows[part])
        assert _mapped_pages() - least < (12 << 20) // mmap.PAGESIZE
    store.close()


def _mapped_pages() -> int:
    return int(Path("/proc/self/statm").read_text().split()[2])


@pytest.mark.parametrize("flush", [True, False])
@pytest.mark.parametrize("mapped_bytes", [2 << 30, 0])
def test_closing_gives_back_files_threads_and_maps(tmp_path: Path, mapped_bytes: int, flush: bool) -> None:
    """Also of a store that is still held; what keeps a file open keeps its disk mounted."""

    def held() -> tuple[int, int, int]:
        gc.collect()
        maps = Path("/proc/self/maps").read_text().count(str(tmp_path))
        return len(os.listdir("/proc/self/fd")), threading.active_count(), maps

    before, stores = held(), []
    for _ in range(2):
        store = open_store("disk", tmp_path, mapped_bytes=mapped_bytes)
        stores.append(store)
        for version in range(5):
            keys = [(0, i) for i in range(100)]
            store.write(*arrays(keys), rows_of(keys, version))
            store.read(*arrays(keys))
        store.compact()
        store.write(*arrays([(0, 0)]), rows_of([(0, 0)], 5))
        store.close(flush=flush)
    assert held() == before


def test_many_segments_hold_few_files_open(tmp_path: Path) -> None:
    store = open_store("disk", tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    keys = [(0, i) for i in range(3000)]
    store.write(*arrays(keys), rows_of(keys, 0))
    assert store.stats()["segments"] > 100
    assert len(os.listdir("/proc/self/fd")) <= before + rows_view.FEW_HANDLES + 1
    store.close()


def test_few_files_may_be_open(tmp_path: Path) -> None:
    """Most are left to others, new segments among them; what has no handle is read by maps."""
    store = open_store("disk", tmp_path, mapped_bytes=0)
    keys, limits = [(0, i) for i in range(3000)], resource.getrlimit(resource.RLIMIT_NOFILE)
    most = len(os.listdir("/proc/self/fd")) + 40
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
    try:
        for beg in range(0, len(keys), 10):
            part = keys[beg : beg + 10]
            store.write(*arrays(part), rows_of(part, 0))
            np.testing.assert_array_equal(store.read(*arrays(keys[: beg + 10]))[1], rows_of(keys[: beg + 10], 0))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert store.stats()["segments"] > 100
    store.close()
