"""Rows of the disk tier, to and from segments. A record is a row and a checksum of its key and bytes.

A read moves each record once from its file, mapped or not, and checks it in the first-level cache.

Sizes: N keys of a call, B bytes of a row.
"""

from __future__ import annotations

from mmap import MADV_WILLNEED, PAGESIZE

import numpy as np
from numba import carray

from recis_core.backends.numba_backend.compiled import compiled, inlined, prefetch
from recis_core.backends.tier_loops.disk_words import (
    HALF,
    copy_bytes,
    key_hash,
    load_word,
    madvise,
    mincore,
    pointer,
    pread,
    row_check,
)

CHECK_BYTES = 4
ADDRESS, HANDLE, RECORDS_AT = range(3)
AHEAD = 12  # rows asked for before they are read
APART = 2  # pages between two rows up to which one request for both takes less time than two


@compiled
def seal_rows(ids, tables, rows, row_bytes, lanes, records):  # type: ignore[no-untyped-def]
    """Fill records, uint8 [N · (B + 4)], from rows, uint8 [N · B]."""
    rows_address, records_address = np.int64(rows.ctypes.data), np.int64(records.ctypes.data)
    for i in range(len(ids)):
        at = i * (row_bytes + CHECK_BYTES)
        copy_bytes(records_address + at, rows_address + i * row_bytes, row_bytes)
        check = row_check(rows, i * row_bytes, row_bytes, lanes, key_hash(ids[i], tables[i]))
        for byte in range(CHECK_BYTES):
            records[at + row_bytes + byte] = np.uint8(check >> np.uint32(8 * byte))


@compiled
def gather_rows(ids, tables, locations, files, row_bytes, lanes, beg, end, rows):  # type: ignore[no-untyped-def]
    """Fill rows, uint8 [N · B], from beg to end; zeros where location is -1.

    Args:
      files: int64 [segments, 3], of a segment its ADDRESS in memory, the HANDLE to read it by instead, or -1, and where
        in it records begin, RECORDS_AT.

    Returns:
      the first row whose check does not fit, or -1.
    """
    rows_address, memory, bad = np.int64(rows.ctypes.data), carray(pointer(np.int64(0)), (1,), np.uint8), np.int64(-1)
    record = np.empty(8 + row_bytes + CHECK_BYTES, np.uint8)  # eight bytes before it, for _check_behind
    record_address = np.int64(record.ctypes.data) + 8
    for i in range(beg, end):
        if i + AHEAD < end and locations[i + AHEAD] >= 0 and locations[i + AHEAD] >> 32 < len(files):
            _prefetch_record(locations[i + AHEAD], files, row_bytes, memory)
        to = i * row_bytes
        if locations[i] < 0:
            rows[to : to + row_bytes] = 0
            continue
        here = locations[i] >> 32 < len(files) and files[locations[i] >> 32, ADDRESS] > 0
        address = _record_at(locations[i], files, row_bytes, record_address) if here else np.int64(0)
        if address > 0:
            copy_bytes(rows_address + to, address, row_bytes)
            check = row_check(rows, to, row_bytes, lanes, key_hash(ids[i], tables[i]))
        if bad < 0 and not (address > 0 and check == _check_behind(address + row_bytes, memory)):
            bad = i
    return bad


@compiled
def any_absent(locations, files, row_bytes, step):  # type: ignore[no-untyped-def]
    """Whether the page of any step-th row is not in memory."""
    answer = np.ones(1, np.uint8)
    for i in range(step // 2, len(locations), step):
        if locations[i] >= 0:
            page = _address_of(locations[i], files, row_bytes) & -PAGESIZE
            if mincore(page, PAGESIZE, np.int64(answer.ctypes.data)) == 0 and answer[0] & 1 == 0:
                return True
    return False


@compiled
def ask_ahead(locations, files, row_bytes, beg, end):  # type: ignore[no-untyped-def]
    """Ask the system to read the pages of rows beg to end, which are in order, and do not wait."""
    first = behind = np.int64(0)
    for i in range(beg, end):
        address = _address_of(locations[i], files, row_bytes)
        page = address & -PAGESIZE
        if not behind <= page + PAGESIZE <= behind + (APART + 1) * PAGESIZE:
            if behind > first:
                madvise(first, behind - first, MADV_WILLNEED)
            first = page
        behind = ((address + row_bytes + CHECK_BYTES - 1) & -PAGESIZE) + PAGESIZE
    if behind > first:
        madvise(first, behind - first, MADV_WILLNEED)


@inlined
def _address_of(location, files, row_bytes):  # type: ignore[no-untyped-def]
    segment, row = location >> 32, location & 0xFFFFFFFF
    return files[segment, ADDRESS] + files[segment, RECORDS_AT] + row * (row_bytes + CHECK_BYTES)


@inlined
def _prefetch_record(location, files, row_bytes, memory):  # type: ignore[no-untyped-def]
    if files[location >> 32, HANDLE] < 0:
        address = _address_of(location, files, row_bytes)
        for line in range(0, row_bytes + CHECK_BYTES + 63, 64):
            prefetch(memory, address + line)


@inlined
def _record_at(location, files, row_bytes, record_address):  # type: ignore[no-untyped-def]
    """A record's address: in the mapped file, or `record_address` after a read by a handle; 0 if the file is too short."""
    address, handle, size = (
        _address_of(location, files, row_bytes),
        files[location >> 32, HANDLE],
        row_bytes + CHECK_BYTES,
    )
    if handle < 0:
        return address
    at = address - files[location >> 32, ADDRESS]
    return record_address if pread(handle, record_address, size, at) == size else np.int64(0)


@inlined
def _check_behind(address, memory):  # type: ignore[no-untyped-def]
    """The checksum that follows a row's end, as the last bytes of one 8-byte load."""
    return load_word(memory, address + CHECK_BYTES - 8) >> HALF
