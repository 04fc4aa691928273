"""What stands beside rows, an array each, by row number.

numpy takes an index of any kind apart again for each array; these loops take row numbers alone.

Sizes: n rows of a call, R rows.
"""

from __future__ import annotations

import numpy as np

from backends.numba_backend.compiled import compiled
from backends.numba_backend.memory import zeroed


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
def pin(pinned, dirty, stored, rows, step):  # type: ignore[no-untyped-def]
    """pinned at distinct rows int [n] is `step` at least; how many of them were pinned before, or dirty, or stored."""
    known = 0
    for i in range(len(rows)):
        row = rows[i]
        known += pinned[row] >= 0 or dirty[row] or stored[row]
        pinned[row] = max(pinned[row], step)
    return known
