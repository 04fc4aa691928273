"""Rows and tombstones moved, also while others read and write."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiers.disk_stores import B, Key, arrays, contents, open_store, rows_of


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
