"""Rows of bytes in blocks, by number.

A call reads and writes n rows of B bytes once, which bounds its speed.

Sizes: n rows of a call, B bytes of a row.
"""

from __future__ import annotations

import numpy as np
from numba import carray, prange

from recis_core.backends.numba_backend.compiled import compiled, compiled_parallel, inlined, prefetch
from recis_core.backends.tier_loops.disk_words import copy_bytes, pointer

BLOCK = 256  # rows a thread copies at a time
AHEAD = 8  # rows between a prefetch and its use


def read_parts(
    bases: np.ndarray, rows_a_block: int, cuts: np.ndarray, rows: np.ndarray, parts: tuple[np.ndarray, ...]
) -> None:
    """Columns cuts[k] to cuts[k + 1] go to parts[k], contiguous uint8 [n, ·].

    bases: int64, the blocks' addresses. rows: int [n].
    """
    _move_all(bases, rows_a_block, cuts, rows, _addresses(parts), False)


def write_parts(
    bases: np.ndarray, rows_a_block: int, cuts: np.ndarray, rows: np.ndarray, parts: tuple[np.ndarray, ...]
) -> None:
    """The reverse, of distinct rows."""
    _move_all(bases, rows_a_block, cuts, rows, _addresses(parts), True)


def _addresses(parts: tuple[np.ndarray, ...]) -> np.ndarray:
    if not all(part.flags.c_contiguous for part in parts):
        raise ValueError("parts of rows must be contiguous.")
    return np.array([part.ctypes.data for part in parts], np.int64)


@compiled_parallel
def _move_all(bases, rows_a_block, cuts, rows, parts, into_blocks):  # type: ignore[no-untyped-def]
    """parts: int64, addresses."""
    n = len(rows)
    for block in prange((n + BLOCK - 1) // BLOCK):
        _move(bases, rows_a_block, cuts, rows, parts, block * BLOCK, min(block * BLOCK + BLOCK, n), into_blocks)


@compiled
def _move(bases, rows_a_block, cuts, rows, parts, beg, end, into_blocks):  # type: ignore[no-untyped-def]
    everything = carray(pointer(np.int64(0)), (1,), np.uint8)
    B = cuts[len(parts)]
    for i in range(beg, end):
        if i + AHEAD < end:
            _prefetch_row(everything, _address(bases, rows_a_block, rows[i + AHEAD], B), B)
        row = _address(bases, rows_a_block, rows[i], B)
        for k in range(len(parts)):
            width = cuts[k + 1] - cuts[k]
            inside, outside = row + cuts[k], parts[k] + i * width
            if into_blocks:
                copy_bytes(inside, outside, width)
            else:
                copy_bytes(outside, inside, width)


@inlined
def _prefetch_row(everything, address, B):  # type: ignore[no-untyped-def]
    for line in range(0, B + 63, 64):
        prefetch(everything, address + line)


@inlined
def _address(bases, rows_a_block, row, B):  # type: ignore[no-untyped-def]
    return bases[row // rows_a_block] + (row % rows_a_block) * B
