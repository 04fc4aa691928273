"""What a column's nulls become: left out, an error, or a value.

Sizes: n rows, N values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recis_core.io.hashing import text_id
from recis_core.io.kinds import is_list
from recis_core.io.leaves import flattened, row_of, running
from recis_core.io.rows import RowError

WAYS = "Write a value there, or give null='drop' or default=VALUE."


@dataclass(frozen=True)
class NullRule:
    """error: a null, of any level, raises. default: what null values become, and the one value of null lists; None if the
    column's own rule holds."""

    error: bool = False
    default: Any = None

    def applied(self, array: pa.Array) -> pa.Array:
        """The array with its nulls replaced, or as it is. Raises RowError."""
        if self.error:
            _require_none(array)
        return array if self.default is None else filled(array, self.default)


def rule(name: str, null: str, default: Any, other: str = "drop") -> NullRule:
    """Raises ValueError unless null is "error" or the column's own rule, `other`, and goes with the default."""
    if null not in (other, "error"):
        raise ValueError(
            f"null of {name!r} must be {other!r} or 'error'; got {null!r}. A value for nulls is default=VALUE."
        )
    if null == "error" and default is not None:
        raise ValueError(f"{name!r} has null='error' and default={default!r}; give one of them.")
    return NullRule(null == "error", default)


def as_id(default: Any) -> Any:
    """The id that a default is; text is hashed, as in columns of text."""
    if isinstance(default, str | bytes):
        return text_id(default.encode() if isinstance(default, str) else default)
    return default


def nan_to_null(values: pa.Array) -> pa.Array:
    """Floats; NaN, which pandas writes for what is missing, becomes null."""
    return pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)


def _require_none(array: pa.Array) -> None:
    row = _first_null(array)
    if row is not None:
        raise RowError(row, f"must hold no null; got one. {WAYS}")


def _first_null(array: pa.Array) -> int | None:
    """The first row that is null or holds one."""
    found = [int(pc.index(array.is_null(), True).as_py())] if array.null_count else []
    if is_list(array.type):
        offsets, values = flattened(array)
        inner = _first_null(values)
        found += [] if inner is None else [row_of(offsets, inner)]
    return min(found, default=None)


def filled(array: pa.Array, default: Any) -> pa.Array:
    """Null values replaced; a null list, of any level, becomes a list of one null, which is replaced then."""
    if not is_list(array.type):
        return pc.fill_null(array, pa.scalar(default, array.type)) if array.null_count else array
    offsets, values = flattened(array)
    if array.null_count:
        offsets, values = _with_nulls(offsets, values, array.is_null().to_numpy(zero_copy_only=False))
    return pa.LargeListArray.from_arrays(pa.array(offsets), filled(values, default))


def _with_nulls(offsets: np.ndarray, values: pa.Array, empty: np.ndarray) -> tuple[np.ndarray, pa.Array]:
    """One null for each row that is `empty`."""
    places = np.insert(np.arange(len(values)), offsets[:-1][empty], -1)
    return running(np.diff(offsets) + empty), values.take(pa.array(places, mask=places < 0))
