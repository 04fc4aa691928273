"""Hashes of pairs of ids. Sizes: C columns, N pairs of all columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import torch
from torch import Tensor

from recis_core.hashing.columns import (
    addresses,
    as_columns,
    check_dtype,
    cut,
    device_of,
    is_many,
    joined,
    runs_loops,
    starts_of,
)
from recis_core.hashing.murmur import murmur_pair


@overload
def murmur_pairs(x: Tensor, y: Tensor) -> Tensor: ...
@overload
def murmur_pairs(x: Sequence[Tensor], y: Sequence[Tensor]) -> list[Tensor]: ...
def murmur_pairs(x: Tensor | Sequence[Tensor], y: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
    """MurmurHash64A, seed 0, of the 16 little-endian bytes x‖y: the id of a crossed pair of ids.

        murmur_pairs(torch.tensor([1001]), torch.tensor([1]))        # [-7808879811642834040]

    Args:
      x, y: int64 of one shape; or two lists of as many columns, hashed in one call.

    Returns:
      int64 of that shape; for columns a list.

    Raises:
      TypeError: a column is no int64 tensor. ValueError: shapes, devices or numbers of columns differ.
    """
    xs, ys = as_columns(x), as_columns(y)
    if len(xs) != len(ys):
        raise ValueError(f"y must have as many columns as x = {len(xs)}; got {len(ys)}.")
    device = device_of([*xs, *ys], "x and y")
    check_dtype([*xs, *ys], (torch.int64,), "ids")
    for a, b in zip(xs, ys, strict=True):
        if a.shape != b.shape:
            raise ValueError(f"y must have the shape of x, {tuple(a.shape)}; got {tuple(b.shape)}.")
    out = (_by_loops if runs_loops(device) else _by_torch)(xs, ys, device)
    pieces = cut(out, xs)
    return pieces if is_many(x) else pieces[0]


def _by_torch(xs: list[Tensor], ys: list[Tensor], device: torch.device) -> Tensor:
    return murmur_pair(joined(xs, device), joined(ys, device))


def _by_loops(xs: list[Tensor], ys: list[Tensor], device: torch.device) -> Tensor:
    from recis_core.backends.column_loops.murmur import hash_pairs, turns_for_pairs  # loads numba

    xs, ys = [a.contiguous() for a in xs], [b.contiguous() for b in ys]
    starts = starts_of([a.numel() for a in xs])
    out = torch.empty(int(starts[-1]), dtype=torch.int64, device=device)
    arguments: tuple[Any, ...] = (addresses(xs), addresses(ys), starts, out.numpy(), turns_for_pairs(len(out)))
    hash_pairs(*arguments)
    return out
