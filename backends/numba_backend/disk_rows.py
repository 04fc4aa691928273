"""Rows of the disk tier, to and from segments. A row's check binds its bytes to its key.

A read moves each row once from the mapped file and checks it in the first-level cache, against four bytes of its key
in the same file.

Sizes: N keys of a call, B bytes of a row.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from backends.numba_backend.compiled import compiled, prefetch
from backends.numba_backend.disk_index import KEY
from backends.numba_backend.disk_words import HALF, key_hash, load_word, pointer, row_check

KEY_BYTES = KEY.itemsize
AHEAD = 12  # rows asked for before they are read


@compiled
def seal_keys(ids, tables, rows, row_bytes, lanes, keys):  # type: ignore[no-untyped-def]
    """Fill keys [N] of rows, uint8 [N · B]."""
    for i in range(len(ids)):
        keys[i].id, keys[i].table = ids[i], tables[i]
        keys[i].check = row_check(rows, i * row_bytes, row_bytes, lanes, key_hash(ids[i], tables[i]))


@compiled
def gather_rows(ids, tables, locations, bases, row_bytes, lanes, beg, end, rows):  # type: ignore[no-untyped-def]
    """Fill rows, uint8 [N · B], from beg to end; zeros where location is -1.

    Args:
      bases: int64 [segments, 2], the addresses of a segment's row 0 and of its key 0.

    Returns:
      the first row whose check does not fit, or -1.
    """
    everything = carray(pointer(np.int64(0)), (1,), np.uint8)
    bad = np.int64(-1)
    for i in range(beg, end):
        if i + AHEAD < end and locations[i + AHEAD] >= 0:
            prefetch(everything, _key_address(locations[i + AHEAD], bases))
            ahead = _row_address(locations[i + AHEAD], bases, row_bytes)
            for line in range(0, row_bytes + 63, 64):
                prefetch(everything, ahead + line)
        if locations[i] < 0:
            rows[i * row_bytes : (i + 1) * row_bytes] = 0
            continue
        source = carray(pointer(_row_address(locations[i], bases, row_bytes)), (row_bytes,), np.uint8)
        rows[i * row_bytes : (i + 1) * row_bytes] = source
        check = load_word(everything, _key_address(locations[i], bases) + 8) >> HALF
        if row_check(rows, i * row_bytes, row_bytes, lanes, key_hash(ids[i], tables[i])) != check and bad < 0:
            bad = i
    return bad


@compiled
def _row_address(location, bases, row_bytes):  # type: ignore[no-untyped-def]
    return bases[location >> 32, 0] + (location & 0xFFFFFFFF) * row_bytes


@compiled
def _key_address(location, bases):  # type: ignore[no-untyped-def]
    return bases[location >> 32, 1] + (location & 0xFFFFFFFF) * KEY_BYTES
