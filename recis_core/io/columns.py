"""Arrow columns to tensors; tensors share Arrow's memory where they can.

Sizes: n rows, N values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from recis_core.io.kinds import is_list
from recis_core.io.leaves import flattened, row_of, running
from recis_core.io.list_offsets import ListOffsets
from recis_core.io.rows import RowError
from recis_core.ragged import RaggedTensor

FLOATS = {pa.float16(): torch.float16, pa.float32(): torch.float32, pa.float64(): torch.float64}


def levels_of(array: pa.Array, shared: ListOffsets | None = None) -> tuple[list[np.ndarray], pa.Array]:
    """(offsets of each level, outer to inner; values with their nulls). A scalar counts as a row of one value."""
    if not is_list(array.type):
        return [(shared or ListOffsets()).of_values(len(array))], array
    levels = []
    while is_list(array.type):
        offsets, array = flattened(array, shared)
        levels.append(offsets)
    return levels, array


def ragged_column(array: pa.Array, dtype: torch.dtype | None, shared: ListOffsets | None = None) -> RaggedTensor:
    """A column as rows of values. Nulls are left out, also inside lists; a null list is empty.

    Text becomes bytes, uint8, with one more level of offsets. Integers become int64 (uint64 keeps its bits), floats
    `dtype`, or keep their dtype if it is None. shared: offsets of the columns before; equal ones are the same tensor.
    """
    shared = shared or ListOffsets()
    levels, values = levels_of(array, shared)
    kept = present(values)
    if kept is not None:
        levels, values = [*levels[:-1], without(kept, levels[-1])], values.filter(pa.array(kept))
    tensors = [shared.tensor(level) for level in levels]
    if pa.types.is_large_binary(values.type):
        offsets, letters = _letters(values)
        return RaggedTensor.trusted(letters, [*tensors, offsets])
    return RaggedTensor.trusted(as_tensor(values, dtype), tensors)


def present(values: pa.Array) -> np.ndarray | None:
    """bool [N]: which values are not null; None if no value is null."""
    return pc.is_valid(values).to_numpy(zero_copy_only=False) if values.null_count else None


def without(kept: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Offsets of the rows after leaving out values that are not kept."""
    return running(kept)[offsets]


def _letters(texts: pa.Array) -> tuple[Tensor, Tensor]:
    """(offsets [N + 1], uint8 bytes of all texts), as copies: Arrow cannot view text as lists of bytes."""
    if len(texts) == 0:
        return torch.zeros(1, dtype=torch.int64), torch.empty(0, dtype=torch.uint8)
    _, bounds, content = texts.buffers()
    offsets = np.frombuffer(bounds, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    letters = np.frombuffer(content or b"", np.uint8)[offsets[0] : offsets[-1]]
    return torch.from_numpy(offsets - offsets[0]), torch.from_numpy(letters.copy())


def as_tensor(values: pa.Array, dtype: torch.dtype | None) -> Tensor:
    """A tensor of numbers without nulls: integers as int64, floats as `dtype`, or in their own dtype if it is None."""
    if pa.types.is_uint64(values.type):
        values = values.view(pa.int64())
    wanted = torch.int64 if pa.types.is_integer(values.type) else dtype or FLOATS[values.type]
    if len(values) == 0:  # an empty Arrow buffer may have no address to share
        return torch.empty(0, dtype=wanted)
    found = torch.from_dlpack(values)
    return found if found.dtype == wanted else found.to(wanted)


def weighted_column(ids: pa.Array, weights: pa.Array, column: str, shared: ListOffsets) -> RaggedTensor:
    """Rows of ids with float32 weights; `column` is the weights' name. A null id is left out with its weight.

    Raises:
      RowError: a row has more ids than weights, or fewer; or an id's weight is null, NaN or infinite.
    """
    (*_, offsets), values = levels_of(ids, shared)
    (*_, others), scales = levels_of(weights, shared)
    lengths, theirs = np.diff(offsets), np.diff(others)
    if (lengths != theirs).any():
        row = int((lengths != theirs).argmax())
        raise RowError(row, f"must hold as many ids as {column!r} weights; got {lengths[row]} and {theirs[row]}.")
    floats = scales.cast(pa.float32()).to_numpy(zero_copy_only=False)
    kept = present(values)
    wrong = ~np.isfinite(floats) if kept is None else ~np.isfinite(floats) & kept
    if wrong.any():
        n = int(wrong.argmax())
        shown = "null" if not scales[n].is_valid else floats[n]
        raise RowError(row_of(offsets, n), f"weights in {column!r} must be finite; got {shown}.")
    ragged = ragged_column(ids, None, shared)
    ragged.set_weight(torch.from_numpy(floats.copy() if kept is None else floats[kept]))
    return ragged


VARLEN = "Use varlen_feature, or a default of that length."


def fixed_column(
    array: pa.Array, default_value: float | Sequence[float], dtype: torch.dtype | None, way_out: str = VARLEN
) -> Tensor:
    """A column as [n, len(default_value)], or [n] if the default is a number.

    An empty or null row gets the default; a null inside a list gets the default's value of that place.

    Raises:
      RowError: a row has another length.
    """
    defaults = list(default_value) if isinstance(default_value, Sequence | np.ndarray) else [default_value]
    (*_, offsets), values = levels_of(array)
    kept = present(values)
    if not is_list(array.type) and kept is not None:
        offsets, values, kept = without(kept, offsets), values.filter(pa.array(kept)), None
    lengths = np.diff(offsets)
    _require_lengths(lengths, len(defaults), way_out)
    filled = values if kept is None else pc.fill_null(values, 0)
    found = as_tensor(filled, dtype)
    out = torch.tensor(defaults, dtype=found.dtype).repeat(len(lengths), 1)
    held = torch.from_numpy(lengths != 0)
    rows = out[held]
    there = torch.ones(len(found), dtype=torch.bool) if kept is None else torch.from_numpy(kept.copy())
    out[held] = torch.where(there, found, rows.reshape(-1)).reshape(rows.shape)
    return out if isinstance(default_value, Sequence | np.ndarray) else out[:, 0]


def _require_lengths(lengths: np.ndarray, width: int, way_out: str) -> None:
    wrong = (lengths != width) & (lengths != 0)
    if wrong.any():
        row = int(wrong.argmax())
        raise RowError(row, f"must hold {width} values, or none; got {lengths[row]}. {way_out}")
