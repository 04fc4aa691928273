"""Row numbers of keys, whose ids are arrays by row: open addressing, linear probing, gaps closed when a key is dropped.

A place holds a row number and the upper half of its key's hash, so a probe reads hardly any key but the right one, and
closing a gap reads places alone. For rows outside a table; a table has its own index (docs/placement.md).

Sizes: n keys of a call, at most one of each; R rows; C places, a power of two.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from recis_core.backends.numba_backend.compiled import compiled, compiled_parallel, inlined, prefetch, trailing_zeros
from recis_core.backends.tier_loops.disk_words import key_hash

EMPTY = np.uint64(0)  # a place's low half is 1 more than the row number
BLOCK = 512  # keys a thread takes at a time
AHEAD = 12  # keys between a prefetch and its use
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def places_for(rows: int) -> int:
    """C, at which two thirds of the places are used at most."""
    return 1 << max(10, (rows + rows // 2).bit_length())


@compiled_parallel
def find_rows(ids, tables, places, row_ids, row_tables, rows):  # type: ignore[no-untyped-def]
    """rows int32 [n] become the keys' row numbers, -1 for none. places: uint64 [C]. row_ids int64, row_tables int32 [R]."""
    n = len(ids)
    for block in prange((n + BLOCK - 1) // BLOCK):
        _find_part(ids, tables, places, row_ids, row_tables, rows, block * BLOCK, min(block * BLOCK + BLOCK, n))


@compiled
def _find_part(ids, tables, places, row_ids, row_tables, rows, beg, end):  # type: ignore[no-untyped-def]
    """Pass by pass, so that many reads overlap: of the places, of the keys beside rows, and then all that is left."""
    last, shift = len(places) - 1, _shift(len(places))
    for i in range(beg, end):
        prefetch(places, 8 * _home(key_hash(ids[i], tables[i]), shift))
    for i in range(beg, end):
        hashed = key_hash(ids[i], tables[i])
        at, left = _home(hashed, shift), last
        while places[at] != EMPTY and (places[at] ^ hashed) >> HALF != 0 and left > 0:
            at = (at + 1) & last
            left -= 1
        rows[i] = _row(places[at])
        if rows[i] >= 0:
            prefetch(row_ids, 8 * np.int64(rows[i]))
            prefetch(row_tables, 4 * np.int64(rows[i]))
    for i in range(beg, end):
        row = rows[i]
        if row >= 0 and (row_ids[row] != ids[i] or row_tables[row] != tables[i]):
            at = _place_of(ids[i], tables[i], places, row_ids, row_tables)
            rows[i] = _row(places[at]) if at >= 0 else np.int32(-1)


@compiled
def insert_rows(ids, tables, rows, places):  # type: ignore[no-untyped-def]
    """Insert absent keys; rows int32 [n]. Whether each found a place."""
    last, shift = len(places) - 1, _shift(len(places))
    for i in range(len(ids)):
        if i + AHEAD < len(ids):
            prefetch(places, 8 * _home(key_hash(ids[i + AHEAD], tables[i + AHEAD]), shift))
        hashed = key_hash(ids[i], tables[i])
        at, left = _home(hashed, shift), last
        while places[at] != EMPTY and left > 0:
            at = (at + 1) & last
            left -= 1
        if places[at] != EMPTY:
            return False
        places[at] = (hashed >> HALF) << HALF | np.uint64(rows[i] + 1)
    return True


@compiled
def drop_rows(rows, places, row_ids, row_tables):  # type: ignore[no-untyped-def]
    """Forget the keys of distinct rows, int [n]. Whether each had a place."""
    last, shift = len(places) - 1, _shift(len(places))
    for i in range(len(rows)):
        if i + 2 * AHEAD < len(rows):
            prefetch(row_ids, 8 * np.int64(rows[i + 2 * AHEAD]))
            prefetch(row_tables, 4 * np.int64(rows[i + 2 * AHEAD]))
        if i + AHEAD < len(rows):
            row = rows[i + AHEAD]
            prefetch(places, 8 * _home(key_hash(row_ids[row], row_tables[row]), shift))
        row = rows[i]
        at, left = _home(key_hash(row_ids[row], row_tables[row]), shift), last
        while _row(places[at]) != row and left > 0:
            at = (at + 1) & last
            left -= 1
        if _row(places[at]) != row:
            return False
        _close_up(at, places, shift)
    return True


@inlined
def _shift(size):  # type: ignore[no-untyped-def]
    """How far to shift a hash right for its home among `size` places."""
    return np.uint64(64) - np.uint64(trailing_zeros(np.uint64(size)))


@inlined
def _home(hashed, shift):  # type: ignore[no-untyped-def]
    """A hash's highest bits, which a place holds too."""
    return np.int64(hashed >> shift)


@inlined
def _row(place):  # type: ignore[no-untyped-def]
    return np.int32(np.int64(place & LOW) - 1)


@compiled
def _place_of(id_, table, places, row_ids, row_tables):  # type: ignore[no-untyped-def]
    """The key's place, or the free one that it would take; -1 if there is neither."""
    last = len(places) - 1
    at = _home(key_hash(id_, table), _shift(len(places)))
    for _ in range(len(places)):
        if places[at] == EMPTY or (row_ids[_row(places[at])] == id_ and row_tables[_row(places[at])] == table):
            return at
        at = (at + 1) & last
    return np.int64(-1)


@inlined
def _close_up(gap, places, shift):  # type: ignore[no-untyped-def]
    """Later keys move into the gap unless they would then lie before their home."""
    last, left = len(places) - 1, len(places)
    at = (gap + 1) & last
    while places[at] != EMPTY and left > 0:
        left -= 1
        if ((at - _home(places[at], shift)) & last) >= ((at - gap) & last):
            places[gap] = places[at]
            gap = at
        at = (at + 1) & last
    places[gap] = EMPTY
