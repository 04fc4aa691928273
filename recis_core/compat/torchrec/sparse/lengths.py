"""Lengths and offsets of bags, and checks of both.

Sizes: B bags, N values.
"""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def check_integers(name: str, tensor: Tensor | None) -> None:
    """Raises TypeError unless the tensor is None, empty or of integers."""
    if tensor is not None and tensor.numel() and tensor.dtype not in INTEGERS:
        raise TypeError(f"{name} must be integers; got {tensor.dtype}.")


def require_one(lengths: Tensor | None, offsets: Tensor | None) -> None:
    """Raises ValueError if there are neither lengths nor offsets."""
    if lengths is None and offsets is None:
        raise ValueError("give lengths [B] or offsets [B + 1]; got neither.")


def to_offsets(lengths: Tensor) -> Tensor:
    """[B + 1] of lengths [B], in their dtype."""
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0).to(lengths.dtype)])


def edges(counts: list[int]) -> list[int]:
    """0 and the running sums."""
    return [0, *accumulate(counts)]


def require_weights(weights: Tensor | None) -> Tensor:
    """Raises ValueError if there are none."""
    if weights is None:
        raise ValueError("this (Keyed)JaggedTensor has no weights; weights_or_none() gives None then.")
    return weights
