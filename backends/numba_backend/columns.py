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
