"""What stands beside rows, an array each, by row number.

numpy takes an index of any kind apart again for each array; these loops take row numbers alone.

Sizes: n rows of a call, R rows.
"""

from __future__ import annotations

import numpy as np

from recis_core.backends.numba_backend.compiled import compiled
from recis_core.backends.numba_backend.memory import zeroed


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
    """A call asks for distinct rows int [n], which are pinned by `step` at least; how many were pinned before, or dirty, or
    stored.

    touch: it is a use of them, at `step`. counted: whether `uses` counts those; new rows begin with one in any case.
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
    """Distinct rows int [n] were used at `step`, and stay where they are; how many they are."""
    for i in range(len(rows)):
        used[rows[i]] = step
        if counted:
            uses[rows[i]] += 1
    return len(rows)


@compiled
def note_uses(used, uses, score, rows, steps, more, scores, nothing):  # type: ignore[no-untyped-def]
    """Distinct rows int [n] were used: by so many more, at last at these steps, to these scores, NaN for what they were.

    Of rows whose `used` is `nothing` all begins anew; how many those were.
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
    """`nothing` at distinct rows int [n]; how many they are."""
    for i in range(len(rows)):
        used[rows[i]] = nothing
    return len(rows)
