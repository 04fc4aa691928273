"""Rows of the disk tier, to and from segments. A row's check binds its bytes to its key.

A read moves each row once from its file, mapped or not, and checks it in the first-level cache, against four bytes of
its key in the same file.

Sizes: N keys of a call, B bytes of a row.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from backends.numba_backend.compiled import compiled, inlined, prefetch
from backends.numba_backend.disk_index import KEY
from backends.numba_backend.disk_words import HALF, key_hash, load_word, pointer, pread, row_check

KEY_BYTES = KEY.itemsize
ADDRESS, KEYS_BY, ROWS_BY, KEYS_AT, ROWS_AT = range(5)
AHEAD = 12  # rows asked for before they are read


@compiled
def seal_keys(ids, tables, rows, row_bytes, lanes, keys):  # type: ignore[no-untyped-def]
    """Fill keys [N] of rows, uint8 [N · B]."""
    for i in range(len(ids)):
        keys[i].id, keys[i].table = ids[i], tables[i]
        keys[i].check = row_check(rows, i * row_bytes, row_bytes, lanes, key_hash(ids[i], tables[i]))


@compiled
def gather_rows(ids, tables, locations, files, row_bytes, lanes, beg, end, rows):  # type: ignore[no-untyped-def]
    """Fill rows, uint8 [N · B], from beg to end; zeros where location is -1.

    Args:
      files: int64 [segments, 5], of a segment its ADDRESS in memory, the handles to read keys and rows by instead, or
        -1, and where in it they begin: KEYS_BY, ROWS_BY, KEYS_AT, ROWS_AT.

    Returns:
      the first row whose check does not fit, or -1.
    """
    memory, word, bad = carray(pointer(np.int64(0)), (1,), np.uint8), np.zeros(1, np.uint64), np.int64(-1)
    rows_address, word_address = np.int64(rows.ctypes.data), np.int64(word.ctypes.data)
    for i in range(beg, end):
        if i + AHEAD < end and locations[i + AHEAD] >= 0:
            _prefetch_row(locations[i + AHEAD], files, row_bytes, memory)
        if locations[i] < 0:
            rows[i * row_bytes : (i + 1) * row_bytes] = 0
            continue
        segment, row = locations[i] >> 32, locations[i] & 0xFFFFFFFF
        whole = _copy_row(segment, row, files, row_bytes, rows, rows_address, i * row_bytes)
        whole &= _copy_check(segment, row, files, memory, word, word_address)
        check = row_check(rows, i * row_bytes, row_bytes, lanes, key_hash(ids[i], tables[i]))
        if bad < 0 and not (whole and check == word[0] >> HALF):
            bad = i
    return bad


@inlined
def _prefetch_row(location, files, row_bytes, memory):  # type: ignore[no-untyped-def]
    segment, row = location >> 32, location & 0xFFFFFFFF
    if files[segment, KEYS_BY] < 0:
        prefetch(memory, files[segment, ADDRESS] + files[segment, KEYS_AT] + row * KEY_BYTES)
    if files[segment, ROWS_BY] < 0:
        for line in range(0, row_bytes + 63, 64):
            prefetch(memory, files[segment, ADDRESS] + files[segment, ROWS_AT] + row * row_bytes + line)


@inlined
def _copy_row(segment, row, files, row_bytes, rows, rows_address, to):  # type: ignore[no-untyped-def]
    """To rows[to:]; whether the file had it."""
    at, handle = files[segment, ROWS_AT] + row * row_bytes, files[segment, ROWS_BY]
    if handle >= 0:
        return pread(handle, rows_address + to, row_bytes, at) == row_bytes
    rows[to : to + row_bytes] = carray(pointer(files[segment, ADDRESS] + at), (row_bytes,), np.uint8)
    return True


@inlined
def _copy_check(segment, row, files, memory, word, word_address):  # type: ignore[no-untyped-def]
    """The last eight bytes of a key, which end in the check, to word; whether the file had them."""
    at, handle = files[segment, KEYS_AT] + row * KEY_BYTES + 8, files[segment, KEYS_BY]
    if handle >= 0:
        return pread(handle, word_address, 8, at) == 8
    word[0] = load_word(memory, files[segment, ADDRESS] + at)
    return True
