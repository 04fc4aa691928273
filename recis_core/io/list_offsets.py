"""Offsets of lists as int64, for the columns of one part: equal ones are one array and one tensor.

Sizes: n rows.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor


class ListOffsets:
    """Columns often have lists of equal lengths. Their offsets are cast once here, and cut into batches once later."""

    def __init__(self) -> None:
        self._of_lists: dict[tuple[str, int, int, int], list[tuple[pa.Array, np.ndarray]]] = {}
        self._of_values: dict[int, np.ndarray] = {}
        self._tensors: dict[int, tuple[np.ndarray, Tensor]] = {}

    def of_lists(self, bounds: pa.Array) -> np.ndarray:
        """int64 [n + 1], from 0: Arrow's int32 or int64 offsets [n + 1] of n >= 1 lists, which may begin elsewhere."""
        ends = bounds.to_numpy()
        alike = self._of_lists.setdefault((ends.dtype.str, len(ends), int(ends[0]), int(ends[-1])), [])
        for other, found in alike:
            if other.equals(bounds):
                return found
        found = ends.astype(np.int64, copy=False)
        if ends[0]:
            found = found - ends[0]
        alike.append((bounds, found))
        return found

    def of_values(self, rows: int) -> np.ndarray:
        """0 .. rows: those of rows of one value."""
        if rows not in self._of_values:
            self._of_values[rows] = np.arange(rows + 1)
        return self._of_values[rows]

    def tensor(self, level: np.ndarray) -> Tensor:
        """The tensor of an array, one for each array; a copy of one that is Arrow's own."""
        if id(level) not in self._tensors:
            self._tensors[id(level)] = level, torch.from_numpy(level if level.flags.writeable else level.copy())
        return self._tensors[id(level)][1]
