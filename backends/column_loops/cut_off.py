"""Which children of rows stay when rows are cut, and which values lie in chosen rows.

Sizes: C columns, B rows of all columns.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from recis_core.backends.column_loops.addresses import begin_of, column_of, int64_at, turns_for
from recis_core.backends.numba_backend.compiled import compiled, compiled_parallel

CHUNK = 2048  # rows a thread takes at a time
Arrays = tuple[np.ndarray, ...]


def kept_of(  # type: ignore[no-untyped-def]
    offsets: np.ndarray, sizes: np.ndarray, rows: np.ndarray, keeps: np.ndarray, drop_left: np.ndarray, pad_left, fill
) -> list[Arrays] | int:
    """offsets int64 [C], addresses; sizes int64 [C], of children; rows int64 [C + 1], where each column's begin; of each column
    what it keeps.

    Returns for each column (new offsets, which child each new child is or -1, dropped and padded of each row); or the number
    of a column whose offsets do not fit.
    """
    B, C = int(rows[-1]), len(keeps)
    new, begins = np.empty(B + C, np.int64), np.zeros(C + 1, np.int64)
    dropped, padded = np.empty(B, np.int64), np.empty(B, np.int64)
    wrong = _measure(offsets, sizes, rows, keeps, fill, new, begins, dropped, padded)
    if wrong >= 0:
        return int(wrong)
    index = np.empty(begins[-1], np.int64)
    _choose_all(offsets, rows, new, begins, dropped, padded, drop_left, pad_left, fill, index, turns_for(B, CHUNK))
    return [
        (new[beg + c : end + c + 1], index[begins[c] : begins[c + 1]], dropped[beg:end], padded[beg:end])
        for c, (beg, end) in enumerate(zip(rows[:-1].tolist(), rows[1:].tolist(), strict=True))
    ]


@compiled
def _measure(offsets, sizes, rows, keeps, fill, new, begins, dropped, padded):  # type: ignore[no-untyped-def]
    for c in range(len(keeps)):
        total, to = 0, rows[c] + c
        new[to] = 0
        for row in range(rows[c], rows[c + 1]):
            at = offsets[c] + 8 * (row - rows[c])
            length = int64_at(at + 8) - int64_at(at)
            if int64_at(at) < 0 or length < 0 or int64_at(at + 8) > sizes[c]:
                return c
            dropped[row], padded[row] = max(length - keeps[c], 0), max(keeps[c] - length, 0)
            total += keeps[c] if fill else min(length, keeps[c])
            to += 1
            new[to] = total
        begins[c + 1] = begins[c] + total
    return -1


@compiled_parallel
def _choose_all(offsets, rows, new, begins, dropped, padded, drop_left, pad_left, fill, index, turns):  # type: ignore[no-untyped-def]
    B = rows[-1]
    for turn in prange(turns):
        beg = begin_of(turn, turns, CHUNK)
        if beg < B:
            end = min(beg + CHUNK, B)
            _choose(offsets, rows, new, begins, dropped, padded, drop_left, pad_left, fill, index, beg, end)


@compiled
def _choose(offsets, rows, new, begins, dropped, padded, drop_left, pad_left, fill, index, beg, end):  # type: ignore[no-untyped-def]
    c = column_of(rows, beg)
    for row in range(beg, end):
        while row >= rows[c + 1]:
            c += 1
        at = offsets[c] + 8 * (row - rows[c])
        first, last = int64_at(at), int64_at(at + 8)
        child = first + (dropped[row] if drop_left[c] else 0) - (padded[row] if fill and pad_left[c] else 0)
        for to in range(begins[c] + new[row + c], begins[c] + new[row + c + 1]):
            index[to] = child if child >= first and child < last else -1
            child += 1


def chosen_rows(offsets: np.ndarray, sizes: np.ndarray, chosen: np.ndarray, starts: np.ndarray) -> list[Arrays] | int:
    """offsets and chosen int64 [C], addresses; sizes int64 [C], of values; starts int64 [C + 1], where each column's chosen rows
    begin. A chosen row is a row's number, or -1 for an empty one.

    Returns for each column (offsets of chosen rows, the place of each value); or a column whose offsets do not fit.
    """
    B, C = int(starts[-1]), len(offsets)
    new, begins = np.empty(B + C, np.int64), np.zeros(C + 1, np.int64)
    wrong = _measure_chosen(offsets, sizes, chosen, starts, new, begins)
    if wrong >= 0:
        return int(wrong)
    index = np.empty(begins[-1], np.int64)
    _list_all(offsets, chosen, starts, new, begins, index, turns_for(B, CHUNK))
    return [
        (new[beg + c : end + c + 1], index[begins[c] : begins[c + 1]])
        for c, (beg, end) in enumerate(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True))
    ]


@compiled
def _measure_chosen(offsets, sizes, chosen, starts, new, begins):  # type: ignore[no-untyped-def]
    for c in range(len(offsets)):
        total, to = 0, starts[c] + c
        new[to] = 0
        for row in range(starts[c + 1] - starts[c]):
            at = int64_at(chosen[c] + 8 * row)
            if at >= 0:
                beg, end = int64_at(offsets[c] + 8 * at), int64_at(offsets[c] + 8 * at + 8)
                if beg < 0 or end < beg or end > sizes[c]:
                    return c
                total += end - beg
            to += 1
            new[to] = total
        begins[c + 1] = begins[c] + total
    return -1


@compiled_parallel
def _list_all(offsets, chosen, starts, new, begins, index, turns):  # type: ignore[no-untyped-def]
    B = starts[-1]
    for turn in prange(turns):
        beg = begin_of(turn, turns, CHUNK)
        if beg < B:
            _list(offsets, chosen, starts, new, begins, index, beg, min(beg + CHUNK, B))


@compiled
def _list(offsets, chosen, starts, new, begins, index, beg, end):  # type: ignore[no-untyped-def]
    c = column_of(starts, beg)
    for row in range(beg, end):
        while row >= starts[c + 1]:
            c += 1
        at, first = int64_at(chosen[c] + 8 * (row - starts[c])), begins[c] + new[row + c]
        if at >= 0:
            source = int64_at(offsets[c] + 8 * at)
            for to in range(first, begins[c] + new[row + c + 1]):
                index[to] = source + to - first
