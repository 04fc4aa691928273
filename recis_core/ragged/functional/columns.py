"""A column of an op is a tensor or a RaggedTensor; ops on values alone give back the same kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from recis_core.hashing.columns import check_dtype, device_of
from recis_core.ragged.offsets import check_content
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


def refusal(levels: list[Tensor], values: int) -> ValueError:
    """The error of offsets that a loop has found not to fit, though they did when their RaggedTensor was made, or were on another
    device and so not looked at."""
    try:
        check_content(levels, values)
    except ValueError as error:
        return error
    return ValueError("offsets changed while an op read them; an op's inputs must stay as they are until it returns.")
