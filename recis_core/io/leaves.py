"""Operations on the values in a column's innermost lists.

Sizes: n rows, N values.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recis_core.io.kinds import is_list, plain_type
from recis_core.io.list_offsets import ListOffsets
from recis_core.io.rows import RowError

Convert = Callable[[pa.Array], pa.Array]


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A table's column as one array; copied only if it has several chunks."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def running(lengths: np.ndarray) -> np.ndarray:
    """int64 offsets [n + 1] of lengths [n]."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def decoded(array: pa.Array) -> pa.Array:
    """The same values in the type of `plain_type`; lists that must be rebuilt become large lists."""
    if isinstance(array, pa.ExtensionArray):
        return decoded(array.storage)
    if pa.types.is_run_end_encoded(array.type):
        return decoded(pc.run_end_decode(array))
    if pa.types.is_dictionary(array.type):
        return decoded(array.dictionary).take(array.indices)
    if plain_type(array.type) == array.type:
        return array
    if not is_list(array.type):
        return array.cast(plain_type(array.type))
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    return pa.LargeListArray.from_arrays(pa.array(running(lengths)), decoded(array.flatten()))


def flattened(array: pa.Array, shared: ListOffsets | None = None) -> tuple[np.ndarray, pa.Array]:
    """(offsets int64 from 0, the values of all lists); a null list is empty, even if its memory holds values.

    shared: offsets of the columns before; equal ones are the same array.
    """
    if array.null_count:
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
        return running(lengths), array.flatten()
    if len(array) == 0:
        return np.zeros(1, np.int64), array.flatten()
    bounds, values = array.offsets, array.values
    offsets, begin = (shared or ListOffsets()).of_lists(bounds), bounds[0].as_py()
    inside = begin == 0 and offsets[-1] == len(values)
    return offsets, values if inside else values.slice(begin, int(offsets[-1]))


def row_of(offsets: np.ndarray, n: int) -> int:
    """The list that holds value n."""
    return int(np.searchsorted(offsets[1:], n, side="right"))


def over_leaves(array: pa.Array, convert: Convert) -> pa.Array:
    """The same lists, of converted values; without lists the converted values.

    Raises:
      RowError: from `convert`, with the row of the value.
    """
    if not is_list(array.type):
        return convert(array)
    offsets, values = flattened(array)
    try:
        inner = over_leaves(values, convert)
    except RowError as error:
        raise RowError(row_of(offsets, error.row), error.what) from None
    return pa.LargeListArray.from_arrays(pa.array(offsets), inner)


def checked(values: pa.Array, convert: Convert, wanted: str) -> pa.Array:
    """Converted values. If Arrow refuses a value, raises a RowError at the first one."""
    try:
        return convert(values)
    except pa.ArrowInvalid:
        n = _first_refused(values, convert)
        raise RowError(n, f"must be {wanted}; got {_shown(values[n])}.") from None


def _shown(value: pa.Scalar) -> str:
    """The Python value's repr; of values that Python lacks (years past 9999, nanoseconds) the stored integer."""
    try:
        return repr(value.as_py())
    except (ValueError, OverflowError):
        return f"{value.value} of {value.type}"


def _first_refused(values: pa.Array, convert: Convert) -> int:
    low, high = 0, len(values)  # the first refused value is in [low, high)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            convert(values.slice(low, middle - low))
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low
