"""RaggedTensor: rows of unequal length in one flat array.

Sizes: N values, B rows, K ragged levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recis_core.ragged import dense as dense_picture
from recis_core.ragged.offsets import as_offsets, coordinates, cut_levels, joined_levels, longest


@dataclass
class RaggedPadInfo:
    """A truncation's record, one tensor for each level: how many values were dropped and padded, and at which side."""

    drop_nums: list[Tensor] | None = None
    pad_nums: list[Tensor] | None = None
    drop_sides: Tensor | None = None
    pad_sides: Tensor | None = None


class RaggedTensor:
    """Rows of unequal length: all values in one array, and the offset at which each row begins.

        values   a b | c | | d e f        offsets 0 2 3 3 6       four rows, the third empty

    Two levels: outer offsets count rows of the next level. Here users have sessions, and sessions have clicks.

        user 0: [a b] [c]                 offsets 0 2 3           two users: sessions 0..2 and 2..3
        user 1: [d e f]                           0 2 3 6         three sessions

    A plain class, for FSDP2's mixed precision would cast the weights of a dataclass or tuple.

    Args:
      values: [N], or [N, D] for rows of vectors; any dtype. Gradients are kept.
      offsets: integers [B + 1] from 0 to N, or a list of up to five such levels, outer to inner. Stored as int64.
      weight: floating [N], one for each value, or None.
      dense_shape: sizes of B and the K ragged dimensions, -1 for as large as needed. `shape` and `to_dense` use it.

    Raises:
      TypeError, ValueError: types or shapes do not fit; offsets decrease, or do not run from 0 to N. Offsets' values are
        checked on the CPU; on other devices under RECIS_CHECK=1.
    """

    def __init__(
        self,
        values: Tensor,
        offsets: Tensor | Sequence[Tensor],
        weight: Tensor | None = None,
        dense_shape: Sequence[int] | None = None,
    ) -> None:
        if not isinstance(values, Tensor):
            raise TypeError(
                f"values must be a tensor; got {type(values).__name__}. RaggedTensor.from_numpy takes arrays."
            )
        if values.dim() == 0:
            raise ValueError("values must be [N] or [N, D]; got a 0-d tensor.")
        self._values = values
        self._offsets = as_offsets(offsets, values)
        self._dense_shape = _as_dense_shape(dense_shape, len(self._offsets))
        self._pad_info: RaggedPadInfo | None = None
        self._weight: Tensor | None = None
        self.set_weight(weight)

    @classmethod
    def from_dense(cls, dense: Tensor, check_invalid: bool = False, invalid_value: float = 0) -> RaggedTensor:
        """The rows of a rectangle; `check_invalid` removes each row's trailing run of `invalid_value`.

        `dense_shape` keeps the rectangle's size, so that `to_dense(invalid_value)` restores the rectangle.
        """
        values, offsets = dense_picture.dense_to_ragged(dense, check_invalid, invalid_value)
        return cls(values, offsets, dense_shape=dense.shape)

    @classmethod
    def from_numpy(
        cls, values: np.ndarray, offsets: np.ndarray | Sequence[np.ndarray], weight: np.ndarray | None = None
    ) -> RaggedTensor:
        """A RaggedTensor of arrays; shares their memory if they are writable and offsets are int64."""
        levels = [offsets] if isinstance(offsets, np.ndarray) else offsets
        weights = None if weight is None else torch.from_numpy(weight)
        return cls(torch.from_numpy(values), [torch.from_numpy(level) for level in levels], weight=weights)

    def values(self) -> Tensor:
        """All values, row after row: [N] or [N, D]."""
        return self._values

    def offsets(self) -> list[Tensor]:
        """int64 offsets of each level, outer to inner; a list of one for simple rows."""
        return self._offsets

    def weight(self) -> Tensor | None:
        """Weights [N], one for each value, or None."""
        return self._weight

    def lengths(self) -> Tensor:
        """int64: the length of each innermost row."""
        return self._offsets[-1].diff()

    def set_values(self, values: Tensor) -> None:
        """Replace the values by as many others."""
        if len(values) != len(self._values):
            raise ValueError(f"values must be as many as before = {len(self._values)}; got {len(values)}.")
        self._values = values

    def set_weight(self, weight: Tensor | None) -> None:
        """Replace the weights: floating [N], or None for none."""
        if weight is not None:
            _check_weight(weight, self._values)
        self._weight = weight

    def set_dim_by_rank(self, dim: int, rank: int) -> None:
        """Set the dense size of dimension `rank`; -1 for as large as needed."""
        sizes = list(self._dense_shape)
        sizes[rank] = dim
        self._dense_shape = _as_dense_shape(sizes, len(self._offsets))

    def set_pad_info(self, pad_info: RaggedPadInfo | None) -> None:
        """Set the record of a truncation."""
        self._pad_info = pad_info

    @property
    def pad_info(self) -> RaggedPadInfo | None:
        """A truncation's record, or None. `to`, `clone` and `pin_memory` keep it, on its device."""
        return self._pad_info

    @property
    def device(self) -> torch.device:
        return self._values.device

    @property
    def dtype(self) -> torch.dtype:
        return self._values.dtype

    @property
    def dim(self) -> int:
        """Number of dimensions: rows and ragged levels, without that of vectors."""
        return len(self._dense_shape)

    @property
    def dense_shape(self) -> tuple[int, ...]:
        """The sizes as given, -1 for as large as needed."""
        return self._dense_shape

    @property
    def max_length(self) -> int:
        """The dense size of the innermost level; waits for the device if no size was given."""
        return self.get_shape(-1)

    @property
    def shape(self) -> tuple[int, ...]:
        """`real_shape()`."""
        return self.real_shape()

    def size(self) -> tuple[int, ...]:
        """`real_shape()`."""
        return self.real_shape()

    def real_shape(self, start: int = 0, end: int | None = None) -> tuple[int, ...]:
        """Sizes of dimensions start..end. A -1 is replaced by the longest row's length; that waits for the device."""
        return tuple(self.get_shape(rank) for rank in range(self.dim)[start:end])

    def get_shape(self, dim: int) -> int:
        """The size of one dimension, given or found."""
        rank = range(self.dim)[dim]
        if self._dense_shape[rank] != -1:
            return self._dense_shape[rank]
        return len(self) if rank == 0 else longest(self._offsets[rank - 1])

    def to_dense(self, default_value: float = 0) -> Tensor:
        """[B, L_1, ..., L_K] (vectors: [..., D]) of `shape`; short rows are padded at the end. Keeps gradients."""
        return dense_picture.ragged_to_dense(self._values, self._offsets, default_value, shape=self._dense_shape)

    def to_sparse(self) -> Tensor:
        """A torch.sparse_coo tensor of `shape`; a value of 0 is kept as an entry."""
        indices = torch.stack(coordinates(self._offsets, len(self._values)))
        size = (*self.real_shape(), *self._values.shape[1:])
        return torch.sparse_coo_tensor(indices, self._values, size, is_coalesced=True, check_invariants=False)

    def to(self, *args: Any, **kwargs: Any) -> RaggedTensor:
        """torch.Tensor.to for values; offsets and weights go to the same device and keep their dtypes."""
        values, non_blocking = self._values.to(*args, **kwargs), kwargs.get("non_blocking", False)
        offsets = [level.to(values.device, non_blocking=non_blocking) for level in self._offsets]
        weight = None if self._weight is None else self._weight.to(values.device, non_blocking=non_blocking)
        return self._like(values, offsets, weight)

    def cpu(self) -> RaggedTensor:
        return self.to("cpu")

    def cuda(self, device: int | str | torch.device = "cuda", non_blocking: bool = False) -> RaggedTensor:
        return self.to(torch.device("cuda", device) if isinstance(device, int) else device, non_blocking=non_blocking)

    def clone(self) -> RaggedTensor:
        """A copy of values, offsets and weights; gradients flow through it."""
        weight = None if self._weight is None else self._weight.clone()
        return self._like(self._values.clone(), [level.clone() for level in self._offsets], weight)

    def rows(self, begin: int, end: int) -> RaggedTensor:
        """Rows begin .. end, 0 <= begin <= end <= len(self): values and weights in the same memory, offsets from 0 anew."""
        return self.run(*cut_levels(self._offsets, begin, end))

    def run(self, offsets: Sequence[Tensor], begin: int, end: int) -> RaggedTensor:
        """Values begin .. end, as rows of `offsets`, which are known to fit them: `rows`, where its offsets are there already."""
        weight = None if self._weight is None else self._weight[begin:end]
        return self._like(self._values[begin:end], list(offsets), weight, (-1, *self._dense_shape[1:]))

    @classmethod
    def trusted(cls, values: Tensor, offsets: list[Tensor], weight: Tensor | None = None) -> RaggedTensor:
        """A RaggedTensor whose int64 offsets and weights are known to fit: nothing is checked, copied or cast."""
        made = object.__new__(cls)
        made._values, made._offsets, made._weight = values, offsets, weight
        made._dense_shape, made._pad_info = (-1,) * (len(offsets) + 1), None
        return made

    @classmethod
    def concatenated(cls, parts: Sequence[RaggedTensor], offsets: Sequence[Tensor] | None = None) -> RaggedTensor:
        """The rows of one or more RaggedTensors of equal levels, one after another, copied. Weighted if all are.

        Args:
          offsets: those of the result, where they are there already.

        Raises:
          ValueError: there is none, levels differ, or only some are weighted.
        """
        if not parts or len({len(part._offsets) for part in parts}) > 1:
            raise ValueError(f"parts must be RaggedTensors of as many levels each; got {list(parts)!r}.")
        weights = [part._weight for part in parts if part._weight is not None]
        if 0 < len(weights) < len(parts):
            raise ValueError(f"parts must all have weights, or none; got {len(weights)} of {len(parts)} with weights.")
        levels = joined_levels([part._offsets for part in parts]) if offsets is None else list(offsets)
        values = torch.cat([part._values for part in parts])
        shape = (-1,) * (len(levels) + 1)
        return parts[0]._like(values, levels, torch.cat(weights) if weights else None, shape)

    def detach(self) -> RaggedTensor:
        """The same memory without gradients."""
        weight = None if self._weight is None else self._weight.detach()
        return self._like(self._values.detach(), self._offsets, weight)

    def pin_memory(self) -> RaggedTensor:
        """A copy in page-locked memory: `to("cuda", non_blocking=True)` of it does not wait."""
        weight = None if self._weight is None else self._weight.pin_memory()
        return self._like(self._values.pin_memory(), [level.pin_memory() for level in self._offsets], weight)

    def is_pinned(self) -> bool:
        return self._values.is_pinned()

    def with_values(self, values: Tensor) -> RaggedTensor:
        """The same rows of other values, as many as before; offsets and weights are shared, not copied or checked again."""
        if len(values) != len(self._values):
            raise ValueError(f"values must be as many as before = {len(self._values)}; got {len(values)}.")
        return self._like(values, self._offsets, self._weight)

    def _like(
        self, values: Tensor, offsets: list[Tensor], weight: Tensor | None, shape: tuple[int, ...] | None = None
    ) -> RaggedTensor:
        """The same rows in other tensors, or other rows, of dense shape `shape`; offsets are not checked again."""
        made = object.__new__(RaggedTensor)
        made._values, made._offsets, made._weight = values, offsets, weight
        made._dense_shape, made._pad_info = shape or self._dense_shape, None if shape else self._pad_info
        return made

    def __len__(self) -> int:
        return len(self._offsets[0]) - 1

    def __repr__(self) -> str:
        levels = ", ".join(str(len(level) - 1) for level in self._offsets)
        weighted = ", weighted" if self._weight is not None else ""
        values = "×".join(map(str, self._values.shape))
        return f"RaggedTensor({levels} rows, {values} values of {self.dtype} on {self.device}{weighted})"


def _as_dense_shape(dense_shape: Sequence[int] | None, levels: int) -> tuple[int, ...]:
    sizes = (-1,) * (levels + 1) if dense_shape is None else tuple(int(size) for size in dense_shape)
    if len(sizes) != levels + 1:
        raise ValueError(f"dense_shape must have {levels + 1} sizes, rows and one a ragged level; got {sizes}.")
    if any(size < -1 for size in sizes):
        raise ValueError(f"dense_shape must hold sizes, or -1 for as large as needed; got {sizes}.")
    return sizes


def _check_weight(weight: Tensor, values: Tensor) -> None:
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        got = weight.dtype if isinstance(weight, Tensor) else type(weight).__name__
        raise TypeError(f"weight must be a floating tensor; got {got}.")
    if tuple(weight.shape) != (len(values),):
        raise ValueError(f"weight must have one entry a value, shape ({len(values)},); got {tuple(weight.shape)}.")
    if weight.device != values.device:
        raise ValueError(f"weight must be on the device of values, {values.device}; got {weight.device}.")
