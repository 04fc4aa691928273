"""Keys by (uid, signed id): a stable radix sort, a byte at a time, that leaves out bytes all ids share.

Sizes: M keys, T logical tables.
"""

from __future__ import annotations

import numpy as np

from recis_core.backends.numba_backend.compiled import compiled, inlined

SIGN = np.uint64(1 << 63)


@compiled
def key_order(ids, tables, ranks):  # type: ignore[no-untyped-def]
    """The permutation int32 [M]. ranks: each table's place among the uids, int32 [T]."""
    M = len(ids)
    if _in_order(ids, tables, ranks):
        return np.arange(M).astype(np.int32)
    order, spare = np.arange(M).astype(np.int32), np.empty(M, np.int32)
    digits = np.empty(M, np.int32)
    for shift in range(0, 64, 8):
        _digits_of_ids(ids, shift, digits)
        order, spare = _sort_by_digit(digits, 256, order, spare)
    for i in range(M):
        digits[i] = ranks[tables[i]]
    return _sort_by_digit(digits, len(ranks), order, spare)[0]


@inlined
def _in_order(ids, tables, ranks):  # type: ignore[no-untyped-def]
    """As keys come from a table that was exported."""
    for i in range(1, len(ids)):
        before, here = ranks[tables[i - 1]], ranks[tables[i]]
        if before > here or (before == here and ids[i - 1] > ids[i]):
            return False
    return True


@inlined
def _digits_of_ids(ids, shift, digits):  # type: ignore[no-untyped-def]
    for i in range(len(ids)):
        digits[i] = np.int32((np.uint64(ids[i]) ^ SIGN) >> np.uint64(shift) & np.uint64(255))


@compiled
def _sort_by_digit(digits, size, order, spare):  # type: ignore[no-untyped-def]
    """One stable counting pass: (sorted, the other buffer)."""
    starts = np.zeros(size + 1, np.int64)
    for digit in digits:
        starts[digit + 1] += 1
    if len(digits) == 0 or starts[digits[0] + 1] == len(digits):
        return order, spare
    for d in range(size):
        starts[d + 1] += starts[d]
    for i in order:
        spare[starts[digits[i]]] = i
        starts[digits[i]] += 1
    return spare, order
