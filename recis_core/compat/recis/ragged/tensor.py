"""RecIS's RaggedTensor: ours without its checks, whose copies share memory, and whose offsets keep their dtype."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recis_core.ragged import RaggedPadInfo, dense_to_ragged
from recis_core.ragged import RaggedTensor as Checked

__all__ = ["RaggedPadInfo", "RaggedTensor"]


class RaggedTensor(Checked):
    """Rows of unequal length, as recis.ragged.tensor.RaggedTensor.

    Other than in recis_core.ragged.RaggedTensor
      - nothing is checked: offsets that do not fit the values show in what uses them;
      - offsets and weights keep their dtypes, `to(dtype)` casts them too, and `clone()` shares all memory;
      - `shape` is that of the offsets at the making, unless dense_shape is given;
      - `to_dense` is as large as the longest rows, whatever dense_shape says.

    Args:
      values: [N] or [N, D].
      offsets: integers [B + 1], or a list of levels, outer to inner.
      weight: [N] or None.
      dense_shape: sizes of B and the ragged dimensions, -1 for that of the offsets.
    """

    def __init__(
        self,
        values: Tensor,
        offsets: Tensor | Sequence[Tensor],
        weight: Tensor | None = None,
        dense_shape: Sequence[int] | None = None,
    ) -> None:
        self._values, self._weight, self._pad_info = values, weight, None
        self._offsets = [offsets] if isinstance(offsets, Tensor) else list(offsets)
        self._dense_shape = (-1,) * (len(self._offsets) + 1) if dense_shape is None else tuple(dense_shape)
        if dense_shape is None:
            self._dense_shape = self.real_shape()

    @classmethod
    def from_dense(cls, dense: Tensor, check_invalid: bool = False, invalid_value: float = 0) -> RaggedTensor:
        values, offsets = dense_to_ragged(dense, check_invalid, invalid_value)
        return cls(values, offsets, dense_shape=dense.shape)

    @classmethod
    def from_numpy(
        cls, values: np.ndarray, offsets: np.ndarray | Sequence[np.ndarray], weight: np.ndarray | None = None
    ) -> RaggedTensor:
        levels = [offsets] if isinstance(offsets, np.ndarray) else offsets
        weights = None if weight is None else torch.from_numpy(weight)
        return cls(torch.from_numpy(values), [torch.from_numpy(level) for level in levels], weights)

    def checked(self) -> Checked:
        """The same rows as recis_core.ragged.RaggedTensor. Raises ValueError, TypeError: offsets or weights do not fit."""
        weight = None if self._weight is None else self._weight.to(self._values.device)
        weight = weight.float() if weight is not None and not weight.is_floating_point() else weight
        return Checked(self._values, self._offsets, weight)

    def get_shape(self, dim: int) -> int:
        rank = range(self.dim)[dim]
        if self._dense_shape[rank] != -1:
            return self._dense_shape[rank]
        level = self._offsets[max(rank - 1, 0)]
        if rank == 0:
            return level.numel() - 1
        return 0 if level.numel() < 2 else int(level.diff().max())

    def set_dim_by_rank(self, dim: int, rank: int) -> None:
        sizes = list(self._dense_shape)
        sizes[rank] = dim
        self._dense_shape = tuple(sizes)

    def set_values(self, values: Tensor) -> None:
        self._values = values

    def set_weight(self, weight: Tensor | None) -> None:
        self._weight = weight

    def to_dense(self, default_value: float = 0.0) -> Tensor:
        """[B, L_1, …]: as large as the longest rows, short rows padded at the end. Raises ValueError: offsets do not fit."""
        return self.checked().to_dense(default_value)

    def to_sparse(self) -> Tensor:
        return self.checked().to_sparse()

    def to(self, *args: Any, **kwargs: Any) -> RaggedTensor:
        weight = None if self._weight is None else self._weight.to(*args, **kwargs)
        return self._like(
            self._values.to(*args, **kwargs), [level.to(*args, **kwargs) for level in self._offsets], weight
        )

    def clone(self) -> RaggedTensor:
        """Another RaggedTensor of the same tensors; `set_values` of one leaves the other."""
        return self._like(self._values, list(self._offsets), self._weight)

    def _like(
        self, values: Tensor, offsets: list[Tensor], weight: Tensor | None, shape: tuple[int, ...] | None = None
    ) -> RaggedTensor:
        return RaggedTensor(values, offsets, weight, shape or self._dense_shape)

    def __str__(self) -> str:
        return (
            f"RaggedTensor(values={self._values}, offsets={self._offsets}, weight={self._weight}, "
            f"dense_shape={self._dense_shape}, dtype={self.dtype}, device={self.device})"
        )

    __repr__ = __str__
