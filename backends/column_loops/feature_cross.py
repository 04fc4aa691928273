"""Crosses of two ragged columns, in two passes over rows: how many distinct ids each has, then the pairs.

A row of one id, the common case, needs no look at it. Longer rows mark ids that are not in the row before: short ones by
comparing all pairs, long ones in a table.

Sizes: C crosses, B rows of all crosses, N values of a column, M pairs of all crosses.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from recis_core.backends.column_loops.addresses import begin_of, column_of, int64_at, turns_for
from recis_core.backends.column_loops.murmur import murmur_pair
from recis_core.backends.numba_backend.compiled import compiled, compiled_parallel, inlined

CHUNK = 1024  # rows a thread takes at a time
SHORT = 16  # ids of a row whose pairs are compared
MIX = np.uint64(0x9E3779B97F4A7C15)


class Side(NamedTuple):
    """x or y of all crosses."""

    ids: np.ndarray  # int64 [C], addresses of int64 values
    offsets: np.ndarray  # int64 [C], addresses of int64 offsets
    sizes: np.ndarray  # int64 [C], how many values


def cross_columns(
    x: Side, y: Side, rows: np.ndarray, weighted: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[int]] | int:
    """rows int64 [C]; weighted bool [C], whether places are wanted.

    Returns (offsets of every cross, int64 [B + C]; ids int64 [M]; places in x and in y int64, of weighted crosses alone; where
    each cross's ids begin, [C + 1]); or the number of a cross whose offsets do not fit.
    """
    starts = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
    B, turns = int(starts[-1]), turns_for(int(starts[-1]), CHUNK)
    first_x, first_y = (np.concatenate([[0], np.cumsum(side.sizes)]).astype(np.int64) for side in (x, y))
    new_x, new_y = np.empty(first_x[-1], np.bool_), np.empty(first_y[-1], np.bool_)
    counts, offsets = np.empty(B, np.int64), np.empty(B + len(rows), np.int64)
    sides = (x.ids, x.offsets, first_x, new_x, y.ids, y.offsets, first_y, new_y)
    _count_all(*sides, starts, counts, turns)
    begins, places = np.zeros(len(rows) + 1, np.int64), np.zeros(len(rows) + 1, np.int64)
    wrong = _add_up(counts, starts, weighted, offsets, begins, places)
    if wrong >= 0:
        return int(wrong)
    ids = np.empty(begins[-1], np.int64)
    from_x, from_y = np.empty(places[-1], np.int64), np.empty(places[-1], np.int64)
    _cross_all(*sides, starts, offsets, begins, places, weighted, ids, from_x, from_y, turns)
    return offsets, ids, from_x, from_y, begins.tolist()


@compiled
def _add_up(counts, starts, weighted, offsets, begins, places):  # type: ignore[no-untyped-def]
    for c in range(len(weighted)):
        total, to = 0, starts[c] + c
        offsets[to] = 0
        for row in range(starts[c], starts[c + 1]):
            if counts[row] < 0:
                return c
            total += counts[row]
            to += 1
            offsets[to] = total
        begins[c + 1] = begins[c] + total
        places[c + 1] = places[c] + (total if weighted[c] else 0)
    return -1


@compiled_parallel
def _count_all(xs, x_offsets, first_x, new_x, ys, y_offsets, first_y, new_y, starts, counts, turns):  # type: ignore[no-untyped-def]
    B = starts[-1]
    for turn in prange(turns):
        beg = begin_of(turn, turns, CHUNK)
        if beg < B:
            _count(
                xs, x_offsets, first_x, new_x, ys, y_offsets, first_y, new_y, starts, counts, beg, min(beg + CHUNK, B)
            )


@compiled
def _count(xs, x_offsets, first_x, new_x, ys, y_offsets, first_y, new_y, starts, counts, beg, end):  # type: ignore[no-untyped-def]
    c = column_of(starts, beg)
    for row in range(beg, end):
        while row >= starts[c + 1]:
            c += 1
        x_beg, x_end = _row(x_offsets[c], row - starts[c])
        y_beg, y_end = _row(y_offsets[c], row - starts[c])
        many_x, many_y = x_end - x_beg, y_end - y_beg
        size_x, size_y = first_x[c + 1] - first_x[c], first_y[c + 1] - first_y[c]
        if min(x_beg, y_beg, many_x, many_y) < 0 or x_end > size_x or y_end > size_y:
            counts[row] = -1
            continue
        if many_x > 1:
            many_x = _mark(xs[c], x_beg, x_end, new_x, first_x[c])
        if many_y > 1:
            many_y = _mark(ys[c], y_beg, y_end, new_y, first_y[c])
        counts[row] = many_x * many_y


@compiled
def _mark(ids, beg, end, new, first):  # type: ignore[no-untyped-def]
    """Mark ids of a row that are not in it before; how many. Rows of one id are not marked."""
    if end - beg > SHORT:
        slots = 2 * SHORT
        while slots < 2 * (end - beg):
            slots *= 2
        return _mark_by_table(ids, beg, end, new, first, np.full(slots, -1))
    many = 0
    for k in range(beg, end):
        seen = False
        for j in range(beg, k):
            seen = seen or int64_at(ids + 8 * j) == int64_at(ids + 8 * k)
        new[first + k] = not seen
        many += not seen
    return many


@compiled
def _mark_by_table(ids, beg, end, new, first, table):  # type: ignore[no-untyped-def]
    """table: open addressing, places of ids, -1 for free."""
    many, mask = 0, np.uint64(len(table) - 1)
    for k in range(beg, end):
        id_ = int64_at(ids + 8 * k)
        slot = ((np.uint64(id_) * MIX) >> np.uint64(32)) & mask
        while table[slot] >= 0 and int64_at(ids + 8 * table[slot]) != id_:
            slot = (slot + np.uint64(1)) & mask
        new[first + k] = table[slot] < 0
        if table[slot] < 0:
            table[slot] = k
            many += 1
    return many


@compiled_parallel
def _cross_all(  # type: ignore[no-untyped-def]
    xs, x_offsets, first_x, new_x, ys, y_offsets, first_y, new_y,
    starts, offsets, begins, places, weighted, ids, from_x, from_y, turns,
):  # fmt: skip
    B = starts[-1]
    for turn in prange(turns):
        beg = begin_of(turn, turns, CHUNK)
        if beg < B:
            _cross(
                xs, x_offsets, first_x, new_x, ys, y_offsets, first_y, new_y,
                starts, offsets, begins, places, weighted, ids, from_x, from_y, beg, min(beg + CHUNK, B),
            )  # fmt: skip


@compiled
def _cross(  # type: ignore[no-untyped-def]
    xs, x_offsets, first_x, new_x, ys, y_offsets, first_y, new_y,
    starts, offsets, begins, places, weighted, ids, from_x, from_y, beg, end,
):  # fmt: skip
    c = column_of(starts, beg)
    for row in range(beg, end):
        while row >= starts[c + 1]:
            c += 1
        at = offsets[row + c]
        x_beg, x_end = _row(x_offsets[c], row - starts[c])
        y_beg, y_end = _row(y_offsets[c], row - starts[c])
        to, place, one_x, one_y = begins[c] + at, places[c] + at, x_end - x_beg == 1, y_end - y_beg == 1
        for k in range(x_beg, x_end):
            for j in range(y_beg, y_end):
                if (one_x or new_x[first_x[c] + k]) and (one_y or new_y[first_y[c] + j]):
                    ids[to] = murmur_pair(int64_at(xs[c] + 8 * k), int64_at(ys[c] + 8 * j))
                    to += 1
                    if weighted[c]:
                        from_x[place], from_y[place] = k, j
                        place += 1


@inlined
def _row(offsets, i):  # type: ignore[no-untyped-def]
    return int64_at(offsets + 8 * i), int64_at(offsets + 8 * i + 8)
