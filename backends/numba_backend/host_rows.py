"""Rows of bytes that lie in blocks, by number.

A call moves n rows of B bytes, once: what bounds it is one read and one write of them.

Sizes: n rows of a call, B bytes of a row.
"""

from __future__ import annotations

import numpy as np
from numba import carray, prange

from backends.numba_backend.compiled import compiled, compiled_parallel, inlined, prefetch
from backends.numba_backend.disk_words import pointer

BLOCK = 256  # rows a thread copies at a time
AHEAD = 8  # rows between a prefetch and its use


@compiled_parallel
def read_blocks(bases, rows_a_block, rows, out):  # type: ignore[no-untyped-def]
    """Fill out, uint8 [n, B]. bases: int64, the blocks' addresses. rows: int [n]."""
    n = len(rows)
    for part in prange((n + BLOCK - 1) // BLOCK):
        _copy(bases, rows_a_block, rows, out, part * BLOCK, min(part * BLOCK + BLOCK, n), False)


@compiled_parallel
def write_blocks(bases, rows_a_block, rows, values):  # type: ignore[no-untyped-def]
    """Distinct rows of the blocks become values, uint8 [n, B]."""
    n = len(rows)
    for part in prange((n + BLOCK - 1) // BLOCK):
        _copy(bases, rows_a_block, rows, values, part * BLOCK, min(part * BLOCK + BLOCK, n), True)


@compiled_parallel
def read_parts(bases, rows_a_block, B, cuts, rows, parts):  # type: ignore[no-untyped-def]
    """As read_blocks; columns cuts[k] to cuts[k + 1] go to parts[k], uint8 [n, ·]."""
    n = len(rows)
    for part in prange((n + BLOCK - 1) // BLOCK):
        _copy_parts(bases, rows_a_block, B, cuts, rows, parts, part * BLOCK, min(part * BLOCK + BLOCK, n), False)


@compiled_parallel
def write_parts(bases, rows_a_block, B, cuts, rows, parts):  # type: ignore[no-untyped-def]
    """The reverse, of distinct rows."""
    n = len(rows)
    for part in prange((n + BLOCK - 1) // BLOCK):
        _copy_parts(bases, rows_a_block, B, cuts, rows, parts, part * BLOCK, min(part * BLOCK + BLOCK, n), True)


@compiled
def _copy_parts(bases, rows_a_block, B, cuts, rows, parts, beg, end, into_blocks):  # type: ignore[no-untyped-def]
    everything = carray(pointer(np.int64(0)), (1,), np.uint8)
    for i in range(beg, end):
        if i + AHEAD < end:
            _prefetch_row(everything, _address(bases, rows_a_block, rows[i + AHEAD], B), B)
        row = carray(pointer(_address(bases, rows_a_block, rows[i], B)), (B,), np.uint8)
        for k in range(len(parts)):
            if into_blocks:
                row[cuts[k] : cuts[k + 1]] = parts[k][i]
            else:
                parts[k][i] = row[cuts[k] : cuts[k + 1]]


@inlined
def _prefetch_row(everything, address, B):  # type: ignore[no-untyped-def]
    for line in range(0, B + 63, 64):
        prefetch(everything, address + line)


@compiled
def _copy(bases, rows_a_block, rows, values, beg, end, into_blocks):  # type: ignore[no-untyped-def]
    B = values.shape[1]
    everything = carray(pointer(np.int64(0)), (1,), np.uint8)
    for i in range(beg, end):
        if i + AHEAD < end:
            _prefetch_row(everything, _address(bases, rows_a_block, rows[i + AHEAD], B), B)
        row = carray(pointer(_address(bases, rows_a_block, rows[i], B)), (B,), np.uint8)
        if into_blocks:
            row[:] = values[i]
        else:
            values[i] = row


@compiled
def _address(bases, rows_a_block, row, B):  # type: ignore[no-untyped-def]
    return bases[row // rows_a_block] + (row % rows_a_block) * B
