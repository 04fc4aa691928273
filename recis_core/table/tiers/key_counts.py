"""How many keys there are of each logical table that shares a storage.

Sizes: n keys, T logical tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recis_core.backends import TableSpec

if TYPE_CHECKING:
    from recis_core.table.disk import DiskStore


def no_keys(spec: TableSpec) -> np.ndarray:
    return np.zeros(len(spec.uids), np.int64)


def counted(spec: TableSpec, tables: np.ndarray) -> np.ndarray:
    """int64 [T], how often each ordinal occurs."""
    return np.bincount(tables, minlength=len(spec.uids))


def rows_on(disk: DiskStore, spec: TableSpec) -> np.ndarray:
    """int64 [T] of a disk that was opened; that of one table says it without a look at its keys."""
    if len(spec.uids) == 1 or not len(disk):
        return no_keys(spec) + len(disk)
    return sum((counted(spec, tables) for tables in disk.scan_tables()), no_keys(spec))
