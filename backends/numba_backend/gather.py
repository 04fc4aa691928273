"""Rows by number.

Sizes: U rows asked for, D dim.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from recis_core.backends.numba_backend.compiled import compiled, compiled_parallel, inlined, prefetch_row
from recis_core.backends.numba_backend.initial_values import write_initial
from recis_core.backends.numba_backend.lanes import LANES, load, store
from recis_core.backends.numba_backend.scratch import empty
from recis_core.backends.numba_backend.state import TableState

BLOCK = 256  # rows a thread copies at a time
AHEAD = 16  # rows between a prefetch and its use


def gather(state: TableState, rows: np.ndarray, ids: np.ndarray, tables: np.ndarray, unknown: str) -> np.ndarray:
    """float32 [U, D]; row -1 reads as zeros or as its key's initial value."""
    values = gather_rows(state.weights, rows)
    absent = np.flatnonzero(rows < 0).astype(np.int32)
    if len(absent) and unknown == "initial":
        _write_unknown(state, absent, ids, tables, values)
    return values


def gather_rows(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """float32 [U, width]; row -1 reads as zeros."""
    values = empty((len(rows), array.shape[1]), np.float32)
    _gather_rows(array, rows, values)
    return values


def copied_rows(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows as they are stored."""
    values = empty((len(rows), array.shape[1]), array.dtype.type)
    _copy_rows(array, rows, values)
    return values


@compiled_parallel
def _copy_rows(array, rows, values):  # type: ignore[no-untyped-def]
    U = len(rows)
    for block in prange((U + BLOCK - 1) // BLOCK):
        _copy_block(array, rows, block * BLOCK, min(block * BLOCK + BLOCK, U), values)


@compiled
def _copy_block(array, rows, beg, end, values):  # type: ignore[no-untyped-def]
    for u in range(beg, end):
        if u + AHEAD < end:
            prefetch_row(array, rows[u + AHEAD])
        values[u] = array[rows[u]]


def _write_unknown(
    state: TableState, absent: np.ndarray, ids: np.ndarray, tables: np.ndarray, values: np.ndarray
) -> None:
    """The keys' initial values, in the table's dtype."""
    stored = np.empty((len(absent), state.spec.dim), state.weights.dtype)
    write_initial(state, np.arange(len(absent), dtype=np.int32), ids[absent], tables[absent], stored)
    fresh = np.empty((len(absent), state.spec.dim), np.float32)
    _gather_rows(stored, np.arange(len(absent), dtype=np.int32), fresh)
    values[absent] = fresh


@compiled_parallel
def _gather_rows(weights, rows, values):  # type: ignore[no-untyped-def]
    U = len(rows)
    for block in prange((U + BLOCK - 1) // BLOCK):
        _gather_block(weights, rows, block * BLOCK, min(block * BLOCK + BLOCK, U), values)


@compiled
def _gather_block(weights, rows, beg, end, values):  # type: ignore[no-untyped-def]
    for u in range(beg, end):
        if u + AHEAD < end and rows[u + AHEAD] >= 0:
            prefetch_row(weights, rows[u + AHEAD])
        if rows[u] < 0:
            values[u] = np.float32(0)
        else:
            _widen_row(weights, np.int64(rows[u]), values, u)


@inlined
def _widen_row(weights, row, values, u):  # type: ignore[no-untyped-def]
    D = values.shape[1]
    for d in range(0, D, LANES):
        store(values, u * D + d, D - d, load(weights, row * D + d, D - d))
