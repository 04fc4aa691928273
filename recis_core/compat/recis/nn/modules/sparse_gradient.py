"""A table's pending gradient as RecIS's sparse tensor.

Sizes: n rows of one backward or accept_grad, U unique rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def as_sparse(parts: Sequence[tuple[Tensor, Tensor]], shape: Sequence[int], steps: int) -> Tensor:
    """Sum of parts (row numbers int64 [n], values [n, D]) over `steps`, sparse [rows, *shape].

    Indices are row numbers while no row is named twice. If one is, they are places 0 … U-1 among the row numbers,
    ascending, as in RecIS 1.0.
    """
    numbers = torch.cat([torch.zeros(0, dtype=torch.int64), *(rows for rows, _ in parts)])
    values = torch.cat([torch.zeros(0, _width(shape)), *(grad.float() for _, grad in parts)])
    unique, inverse = numbers.unique(return_inverse=True)
    if len(unique) < len(numbers):
        values = torch.zeros(len(unique), values.shape[1]).index_add_(0, inverse, values)
        numbers = torch.arange(len(unique))
    size = int(unique[-1]) + 1 if len(unique) else 0
    made = values.reshape(-1, *shape) / steps
    return torch.sparse_coo_tensor(numbers[None], made, (max(size, len(numbers)), *shape), check_invariants=False)


def _width(shape: Sequence[int]) -> int:
    width = 1
    for size in shape:
        width *= size
    return width
