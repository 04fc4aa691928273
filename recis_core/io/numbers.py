"""Checks of columns of floats, value by value.

Sizes: n rows, N values.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from recis_core.io.kinds import is_list
from recis_core.io.leaves import flattened, row_of
from recis_core.io.rows import RowError

Check = Callable[[pa.Array], None]  # raises RowError


def unchecked(array: pa.Array) -> None:
    """Accepts any values."""


def numbers_of(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(offsets [n + 1], values [N], NaN where null)."""
    offsets, values = flattened(array) if is_list(array.type) else (np.arange(len(array) + 1), array)
    return offsets, values.cast(pa.float64()).to_numpy(zero_copy_only=False)


def require(offsets: np.ndarray, values: np.ndarray, right: np.ndarray, wanted: str) -> None:
    """Raises RowError at the first value that is not right."""
    if right.all():
        return
    n = int(right.argmin())
    raise RowError(row_of(offsets, n), f"{wanted}; got {_shown(values[n])}.")


def _shown(value: float) -> str:
    return "null or NaN" if value != value else f"{value:g}"


def _require_one_each(offsets: np.ndarray, what: str) -> None:
    lengths = np.diff(offsets)
    if (lengths != 1).any():
        row = int((lengths != 1).argmax())
        raise RowError(row, f"must hold one {what}; got {int(lengths[row]) or 'null, or a list of none'}.")


def check_labels(array: pa.Array) -> None:
    """Raises RowError unless each row has one value, 0 or 1."""
    offsets, values = numbers_of(array)
    _require_one_each(offsets, "label")
    require(offsets, values, (values == 0) | (values == 1), "must be 0 or 1")


def check_probabilities(array: pa.Array) -> None:
    """Raises RowError unless each row has one value in [0, 1]."""
    offsets, values = numbers_of(array)
    _require_one_each(offsets, "probability")
    require(offsets, values, (values >= 0) & (values <= 1), "must be a probability, in [0, 1]")


def check_dense(array: pa.Array) -> None:
    """Raises RowError at an infinite value."""
    offsets, values = numbers_of(array)
    require(offsets, values, ~np.isinf(values), "must be finite, or null")
