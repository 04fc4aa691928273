"""The values of a column, and the column with others in their place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recis_core.compat.recis.ragged.tensor import RaggedTensor
from recis_core.ragged import RaggedTensor as Checked


class DataValueProcessor:
    """Of a Tensor, sparse Tensor or RaggedTensor. Unlike RecIS's, a result goes into a new RaggedTensor, not into the input.

    Raises:
      ValueError: the data is none of these.
    """

    def __init__(self, data: Tensor | Checked) -> None:
        if not isinstance(data, Tensor | Checked):
            raise ValueError(f"data must be a Tensor or a RaggedTensor; got {type(data).__name__}.")
        self._data = data

    def get_input_value(self) -> Tensor:
        if isinstance(self._data, Checked):
            return self._data.values()
        return self._data._values() if self._data.is_sparse else self._data

    def get_output_value(self, result: Tensor) -> Any:
        """The input's form with these values."""
        if isinstance(self._data, Checked):
            data = self._data
            return RaggedTensor(result, data.offsets(), data.weight(), data.dense_shape)
        if self._data.is_sparse:
            size = self._data.shape
            return torch.sparse_coo_tensor(self._data._indices(), result, size, check_invariants=False)
        return result.reshape(self._data.shape)
