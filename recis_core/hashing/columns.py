"""One column or many: how arguments are read, results are cut, and which implementation runs.

Sizes: C columns, N values of all columns.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def is_many(columns: Any) -> bool:
    """Whether an argument is a list of columns."""
    return isinstance(columns, list | tuple)


def as_columns(columns: Any) -> list[Any]:
    """The columns of an argument that is one column or a list."""
    return list(columns) if is_many(columns) else [columns]


def each(parameter: Any, count: int, name: str) -> list[Any]:
    """One parameter for every column, from a list of as many, or from one for all."""
    if not isinstance(parameter, list | tuple):
        return [parameter] * count
    if len(parameter) != count:
        raise ValueError(
            f"{name} must be one for all columns, or a list of {count}, one a column; got {len(parameter)}."
        )
    return list(parameter)


def runs_loops(device: torch.device) -> bool:
    """Whether compiled loops serve columns on this device; else plain torch does."""
    return device.type == "cpu" and os.environ.get("RECIS_BACKEND") != "torch"


def device_of(tensors: Sequence[Tensor], name: str) -> torch.device:
    """The device of all tensors; the CPU for none.

    Raises:
      TypeError: one is no tensor. ValueError: they lie on several devices.
    """
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a tensor, or a list of tensors; got {type(tensor).__name__}.")
        if tensor.device != tensors[0].device:
            raise ValueError(
                f"{name} of one call must lie on one device; got {tensors[0].device} and {tensor.device}. Move them with .to()."
            )
    return tensors[0].device if tensors else torch.device("cpu")


def check_dtype(tensors: Sequence[Tensor], dtypes: Sequence[torch.dtype], name: str) -> None:
    for tensor in tensors:
        if tensor.dtype not in dtypes:
            words = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
            raise TypeError(f"{name} must be {words}; got {tensor.dtype}.")


def starts_of(counts: Sequence[int]) -> np.ndarray:
    """int64 [C + 1]: where each column begins among all values."""
    starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts


def addresses(tensors: Sequence[Tensor]) -> np.ndarray:
    """int64 [C]: where contiguous CPU tensors lie."""
    return np.array([tensor.data_ptr() for tensor in tensors], np.int64)


def joined(tensors: Sequence[Tensor], device: torch.device, dtype: torch.dtype = torch.int64) -> Tensor:
    """All values [N] of columns of any shape, one after another."""
    flat = [tensor.reshape(-1) for tensor in tensors]
    if len(flat) == 1:
        return flat[0]
    return torch.cat(flat) if flat else torch.zeros(0, dtype=dtype, device=device)


def column_of_each(tensors: Sequence[Tensor]) -> Tensor:
    """int64 [N]: which column each of all values is of."""
    counts = [tensor.numel() for tensor in tensors]
    device = tensors[0].device
    numbers = torch.arange(len(counts), device=device)
    return torch.repeat_interleave(numbers, torch.tensor(counts, device=device), output_size=sum(counts))


def cut(values: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """All values [N] as columns of these shapes."""
    pieces = values.split([tensor.numel() for tensor in like]) if like else ()
    return [piece.view(tensor.shape) for piece, tensor in zip(pieces, like, strict=True)]
