"""Arrays beside rows, by row number.

numpy analyses an index anew for each array; these loops take row numbers alone.

Sizes: n rows of a call, R rows.
"""

from __future__ import annotations

import numpy as np

from recis_core.backends.memory import zeroed
from recis_core.backends.numba_backend.compiled import compiled


def new_column(rows: int, dtype: np.dtype, value: float) -> np.ndarray:
    """[R] of `value`, on huge pages where it is large."""
    column = zeroed((rows,), dtype)
    if value:
        column[:] = value
    return column


@compiled
def fill(column, rows, value):  # type: ignore[no-untyped-def]
    """column [R] at distinct rows int [n]"""
    for i in range(len(rows)):
        column[rows[i]] = value


@compiled
def put(column, rows, values):  # type: ignore[no-untyped-def]
    """column [R] at distinct rows int [n], from values [n]"""
    for i in range(len(rows)):
        column[rows[i]] = values[i]


@compiled
def count_up(column, rows):  # type: ignore[no-untyped-def]
    """1 more at distinct rows int [n]"""
    for i in range(len(rows)):
        column[rows[i]] += 1


@compiled
def count_down(column, rows):  # type: ignore[no-untyped-def]
    """1 less at distinct rows int [n]"""
    for i in range(len(rows)):
        column[rows[i]] -= 1


@compiled
def use_rows(pinned, dirty, stored, used, uses, rows, step, touch, counted):  # type: ignore[no-untyped-def]
    """Pin a call's distinct rows int [n] to `step` at least. Returns how many were pinned, dirty or stored before.

    touch: the call is a use of them. counted: write `uses`, too; a new row starts at one use even without touch.
    """
    known = 0
    for i in range(len(rows)):
        row = rows[i]
        known += pinned[row] >= 0 or dirty[row] or stored[row]
        pinned[row] = max(pinned[row], step)
        if touch:
            used[row] = step
        if counted:
            uses[row] = uses[row] + 1 if touch else max(uses[row], 1)
    return known


@compiled
def touch_rows(used, uses, rows, step, counted):  # type: ignore[no-untyped-def]
    """Note a use of distinct rows int [n] at `step`; returns n."""
    for i in range(len(rows)):
        used[rows[i]] = step
        if counted:
            uses[rows[i]] += 1
    return len(rows)


@compiled
def note_uses(used, uses, score, rows, steps, more, scores, nothing):  # type: ignore[no-untyped-def]
    """Note uses of distinct rows int [n]: so many more, the last at these steps, with these scores; NaN keeps a score.

    Rows whose `used` is `nothing` start anew; returns how many did.
    """
    new = 0
    for i in range(len(rows)):
        row = rows[i]
        if used[row] == nothing:
            new += 1
            uses[row], score[row] = 0, np.nan
        used[row] = steps[i]
        uses[row] += more[i]
        if not np.isnan(scores[i]):
            score[row] = scores[i]
    return new


@compiled
def clear_rows(used, rows, nothing):  # type: ignore[no-untyped-def]
    """Write `nothing` at distinct rows int [n]; returns n."""
    for i in range(len(rows)):
        used[rows[i]] = nothing
    return len(rows)
