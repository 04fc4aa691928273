"""The stores under test by name, small enough that segments fill, partitions grow and files are compacted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from recis_core.table.disk import DiskStore
from recis_core.table.disk.rocks_store import RocksStore

B = 20  # bytes of a row; no multiple of eight
KINDS = {"disk": DiskStore, "rocks": RocksStore}
INDEXES = {"in memory": 3 << 30, "on disk": 0, "from memory to disk": 1 << 19}  # index_bytes
MAPPED = {"by maps": 2 << 30, "maps, then handles": 1 << 16, "by handles": 0}  # mapped_bytes
SMALL = {"segment_bytes": 2 * 4096 + 24 * (B + 16), "threads": 2, "sync": False}

Key = tuple[int, int]  # (table, id)


def open_store(kind: str, path: Path, **options: Any) -> Any:
    settings = {**(SMALL if kind == "disk" else {"sync": False}), **options}
    return KINDS[kind](path, B, tag="test", **settings)


def arrays(keys: list[Key]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([id_ for _, id_ in keys], np.int64), np.array([table for table, _ in keys], np.int32)


def rows_of(keys: list[Key], version: int) -> np.ndarray:
    """Rows that tell key and version, uint8 [N, B]."""
    seeds = np.array([hash((*key, version)) & (2**63 - 1) for key in keys], np.uint64)
    words = seeds[:, None] * np.array([1, 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9], np.uint64)
    return np.ascontiguousarray(words).view(np.uint8)[:, :B].copy()


def contents(store: Any, chunk: int = 7) -> dict[Key, bytes]:
    """Of a scan; each key once."""
    found: dict[Key, bytes] = {}
    for ids, tables, rows in store.scan(chunk):
        assert ids.dtype == np.int64
        assert tables.dtype == np.int32
        for id_, table, row in zip(ids.tolist(), tables.tolist(), rows, strict=True):
            assert (table, id_) not in found
            found[table, id_] = row.tobytes()
    return found
