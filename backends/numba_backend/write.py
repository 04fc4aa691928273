"""Entries written into the index, and taken back; slots of new rows.

Sizes: M keys, S buckets, W ways.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from recis_core.backends.numba_backend.compiled import compiled, compiled_parallel, prefetch_row
from recis_core.backends.numba_backend.hashing import tag_of

BLOCK = 256  # rows a thread fills at a time
AT_ONCE = 4096  # entries or rows put back at a time
AHEAD = 16  # rows between a prefetch and its use


@compiled
def write_entries(entries, tags, entry, ids, tables, rows, a, score, stamp):  # type: ignore[no-untyped-def]
    for i in range(len(entry)):
        at = entry[i]
        entries[at].id, entries[at].table, entries[at].row = ids[i], tables[i], rows[i]
        entries[at].score, entries[at].stamp = score, stamp
        if at < len(tags):
            tags[at] = tag_of(a[i])


@compiled
def copy_entries(entries, tags, entry):  # type: ignore[no-untyped-def]
    """(ENTRY [M], uint8 [M], 0 for the stash)"""
    copied, tags_there = np.empty(len(entry), entries.dtype), np.zeros(len(entry), np.uint8)
    for i in range(len(entry)):
        copied[i] = entries[entry[i]]
        if entry[i] < len(tags):
            tags_there[i] = tags[entry[i]]
    return copied, tags_there


def put_entries_back(
    entries: np.ndarray, tags: np.ndarray, entry: np.ndarray, entries_before: np.ndarray, tags_before: np.ndarray
) -> None:
    """A few at a time, and not compiled, for memory may be short."""
    for beg in range(0, len(entry), AT_ONCE):
        at, inside = entry[beg : beg + AT_ONCE], entry[beg : beg + AT_ONCE] < len(tags)
        entries[at] = entries_before[beg : beg + AT_ONCE]
        tags[at[inside]] = tags_before[beg : beg + AT_ONCE][inside]


def put_back(array: np.ndarray, at: np.ndarray, values: np.ndarray) -> None:
    for beg in range(0, len(at), AT_ONCE):
        array[at[beg : beg + AT_ONCE]] = values[beg : beg + AT_ONCE]


@compiled_parallel
def write_rows(array, rows, values):  # type: ignore[no-untyped-def]
    """Distinct rows; -1 is left out."""
    U = len(rows)
    for block in prange((U + BLOCK - 1) // BLOCK):
        _write_block(array, rows, values, block * BLOCK, min(block * BLOCK + BLOCK, U))


@compiled
def _write_block(array, rows, values, beg, end):  # type: ignore[no-untyped-def]
    for i in range(beg, end):
        if i + AHEAD < end and rows[i + AHEAD] >= 0:
            prefetch_row(array, rows[i + AHEAD])
        if rows[i] >= 0:
            array[rows[i]] = values[i]


@compiled_parallel
def fill_rows(array, rows, value):  # type: ignore[no-untyped-def]
    M = len(rows)
    for block in prange((M + BLOCK - 1) // BLOCK):
        for i in range(block * BLOCK, min(block * BLOCK + BLOCK, M)):
            array[rows[i]] = value
