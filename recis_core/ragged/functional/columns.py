"""A column of an op is a tensor or a RaggedTensor; ops on values alone give back the same kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from recis_core.hashing.columns import check_dtype, device_of
from recis_core.ragged.tensor import RaggedTensor

Column = Tensor | RaggedTensor


def values_of(columns: Sequence[Any], dtypes: Sequence[torch.dtype], name: str = "values") -> list[Tensor]:
    """The values of each column, checked to be of these dtypes and on one device."""
    found = [column.values() if isinstance(column, RaggedTensor) else column for column in columns]
    device_of(found, name)
    check_dtype(found, dtypes, name)
    return found


def as_before(column: Column, values: Tensor) -> Any:
    """Other values in a column's place: rows and weights of a RaggedTensor stay."""
    if not isinstance(column, RaggedTensor):
        return values
    return column._like(values, column.offsets(), column.weight())
