"""The rows of largest norm.

Sizes: U rows, D dim.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recis_core.backends.encoded_rows import check_select

HIGH_HALF = -(1 << 12)  # keeps 12 of a float32's 24 significant bits
LEAST = 2.0**-63  # its square is float32's least normal number


def select_rows(values: Tensor, k: int) -> Tensor:
    check_select(values, k)
    norms = folded_sum(squares(values))
    norms = torch.where(norms.isfinite(), norms, math.inf)
    return norms.sort(descending=True, stable=True).indices[:k].sort().values


def squares(x: Tensor) -> Tensor:
    """x², whose partial products are exact: x is cut into two halves of 12 bits, and no fused product changes a bit."""
    high = (x.view(torch.int32) & HIGH_HALF).view(torch.float32)
    low = _or_zero(x - high)
    high = _or_zero(high)
    return high * high + (2 * high * low + low * low)


def _or_zero(x: Tensor) -> Tensor:
    return torch.where(x.abs() < LEAST, 0.0, x)


def folded_sum(x: Tensor) -> Tensor:
    """float32 [U] of [U, D]: zeros up to a power of two, then half onto half."""
    size = 1 << (x.shape[1] - 1).bit_length()
    x = torch.nn.functional.pad(x, (0, size - x.shape[1]))
    while size > 1:
        size //= 2
        x = x[:, :size] + x[:, size:]
    return x[:, 0]
