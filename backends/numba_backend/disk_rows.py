"""Rows of the disk tier, to and from segments. A row's check binds its bytes to its key.

A read moves each row once from the mapped file and checks it in the first-level cache.

Sizes: N keys of a call, B bytes of a row.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from backends.numba_backend.compiled import compiled, prefetch
from backends.numba_backend.disk_words import key_hash, pointer, row_check

AHEAD = 12  # rows asked for before they are read


@compiled
def seal_keys(ids, tables, rows, row_bytes, lanes, keys):  # type: ignore[no-untyped-def]
    """Fill keys [N] of rows, uint8 [N · B]."""
    for i in range(len(ids)):
        keys[i].id, keys[i].table = ids[i], tables[i]
        keys[i].check = row_check(rows, i * row_bytes, row_bytes, lanes, key_hash(ids[i], tables[i]))


@compiled
def gather_rows(ids, tables, locations, checks, bases, row_bytes, lanes, beg, end, rows):  # type: ignore[no-untyped-def]
    """Fill rows, uint8 [N · B], from beg to end; zeros where location is -1.

    Args:
      bases: int64, by segment the address of its row 0.

    Returns:
      the first row whose check does not fit, or -1.
    """
    everything = carray(pointer(np.int64(0)), (1,), np.uint8)
    bad = np.int64(-1)
    for i in range(beg, end):
        if i + AHEAD < end and locations[i + AHEAD] >= 0:
            ahead = _address(locations[i + AHEAD], bases, row_bytes)
            for line in range(0, row_bytes + 63, 64):
                prefetch(everything, ahead + line)
        if locations[i] < 0:
            rows[i * row_bytes : (i + 1) * row_bytes] = 0
            continue
        source = carray(pointer(_address(locations[i], bases, row_bytes)), (row_bytes,), np.uint8)
        rows[i * row_bytes : (i + 1) * row_bytes] = source
        if row_check(rows, i * row_bytes, row_bytes, lanes, key_hash(ids[i], tables[i])) != checks[i] and bad < 0:
            bad = i
    return bad


@compiled
def _address(location, bases, row_bytes):  # type: ignore[no-untyped-def]
    return bases[location >> 32] + (location & 0xFFFFFFFF) * row_bytes
