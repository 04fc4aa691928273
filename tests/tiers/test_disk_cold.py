"""Rows whose pages are not in memory: asked for together, read as ever."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from recis_core.backends.tier_loops import disk_rows
from recis_core.table.disk import DiskStore, rows_view
from recis_core.table.disk.rows_view import RowsView
from tests.tiers.disk_stores import MAPPED, B, arrays, rows_of

N = 3000  # of four segments, 883 rows on six pages each
KEYS = [(i % 2, i) for i in range(N)]


def open_cold(path: Path, mapped_bytes: int = 2 << 30) -> DiskStore:
    """Its files' pages are the disk's alone, where its file system has one."""
    if not path.exists():
        store = DiskStore(path, B, tag="test", segment_bytes=40_000)
        store.write(*arrays(KEYS), rows_of(KEYS, 0))
        store.close()
    store = DiskStore(path, B, tag="test", segment_bytes=40_000, mapped_bytes=mapped_bytes)
    for file in path.glob("segment-*"):
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)
    if not absent(store._log.view, store.find(*arrays(KEYS))).all():
        store.close()
        pytest.skip("this file system keeps pages in memory")
    return store


def absent(view: RowsView, locations: np.ndarray) -> np.ndarray:
    """bool [N]"""
    return np.array([disk_rows.any_absent(locations[i : i + 1], view.files, B, 1) for i in range(len(locations))])


@pytest.mark.parametrize("mapped_bytes", MAPPED.values(), ids=MAPPED)
def test_cold_rows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped_bytes: int) -> None:
    """In no order, some of them twice and some nowhere; asked for by parts of windows."""
    asked = []
    ask = disk_rows.ask_ahead
    monkeypatch.setattr(disk_rows, "ask_ahead", lambda *args: (asked.append(len(args[0])), ask(*args)))
    for name, size in (("WINDOW", 1000), ("CHUNK", 100), ("ASKED", 100)):
        monkeypatch.setattr(rows_view, name, size)
    store = open_cold(tmp_path / "rows", mapped_bytes)
    order = np.random.default_rng(0).integers(-N // 4, N, 2500)
    keys = [(abs(i) % 2, int(i)) for i in order]
    here, rows = store.read(*arrays(keys))
    np.testing.assert_array_equal(here, order >= 0)
    np.testing.assert_array_equal(rows, np.where(here[:, None], rows_of(keys, 0), 0))
    assert len(asked) > 3
    assert not absent(store._log.view, store.find(*arrays(keys))).any()
    asked.clear()
    np.testing.assert_array_equal(store.read(*arrays(keys))[1], rows)
    assert asked == []
    store.close()


def test_pages_that_were_asked_for_come(tmp_path: Path) -> None:
    """Those between rows that are near one another too, and no others."""
    store = open_cold(tmp_path / "rows")
    view, locations = store._log.view, store.find(*arrays(KEYS))
    asked = locations[[0, 1, 500, 1100]]  # pages 0 and 2 of one segment, 1 of the next
    disk_rows.ask_ahead(asked, view.files, B, 0, len(asked))
    end = time.monotonic() + 10
    while absent(view, asked).any():
        assert time.monotonic() < end
        time.sleep(0.01)
    assert not absent(view, locations[[255]]).any()
    assert absent(view, locations[[590, 850, 1700, 2900]]).all()
    store.close()
