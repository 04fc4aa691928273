"""Numbers to buckets between boundaries. Sizes: C columns, N values of all columns, K boundaries."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from recis_core.hashing.columns import addresses, as_columns, cut, is_many, runs_loops, starts_of
from recis_core.ragged.functional.columns import as_before, values_of
from recis_core.ragged.tensor import RaggedTensor

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
Boundaries = Sequence[float] | Tensor
Column = Tensor | RaggedTensor


@overload
def bucketize(values: Tensor, boundaries: Boundaries) -> Tensor: ...
@overload
def bucketize(values: RaggedTensor, boundaries: Boundaries) -> RaggedTensor: ...
@overload
def bucketize(values: Sequence[Column], boundaries: Sequence[Boundaries]) -> list[Any]: ...
def bucketize(values: Any, boundaries: Any) -> Any:
    """How many boundaries are at most as large as each value: a value at a boundary lies to its right.

        bucketize(torch.tensor([0.5, 10.0, 100.0]), [0.0, 100.0, 200.0])        # [1, 1, 2]

    Args:
      values: floats or integers of any shape, a RaggedTensor of them, or a list of columns.
      boundaries: a tensor [K] or a list, not decreasing. For floats they are cast to the values' dtype, a list to float32
        first; for integers they are rounded up, which changes no bucket. For columns a list of as many boundaries.

    Returns:
      int64 of the same kind and shape, 0 to K; for columns a list, in one call. NaN gives K, as in torch.bucketize.

    Raises:
      TypeError: dtypes. ValueError: boundaries decrease or have NaN, checked on other devices under RECIS_CHECK=1; or they
        are not as many as columns.
    """
    columns = as_columns(values)
    bounds = list(boundaries) if is_many(values) else [boundaries]
    if len(bounds) != len(columns):
        raise ValueError(f"boundaries must be as many as columns of values = {len(columns)}; got {len(bounds)}.")
    numbers = values_of(columns, (*FLOATS, *INTEGERS))
    edges = [_edges(found, part) for found, part in zip(bounds, numbers, strict=True)]
    found = (_by_loops if not numbers or runs_loops(numbers[0].device) else _by_torch)(numbers, edges)
    made = [as_before(column, part) for column, part in zip(columns, found, strict=True)]
    return made if is_many(values) else made[0]


def _edges(boundaries: Boundaries, values: Tensor) -> Tensor:
    """Boundaries [K] as float64 or int64 on the values' device, cast as the values' dtype asks."""
    if not isinstance(boundaries, Tensor):
        return _listed_edges(tuple(boundaries), values.dtype).to(values.device)
    if boundaries.dim() != 1 or boundaries.dtype not in (*FLOATS, *INTEGERS):
        shape, dtype = tuple(boundaries.shape), boundaries.dtype
        raise ValueError(f"boundaries must be numbers [K]; got {dtype} of shape {shape}.")
    boundaries = boundaries.detach().to(values.device)
    if values.device.type == "cpu" or os.environ.get("RECIS_CHECK") == "1":
        _check_rising(boundaries)
    return _cast(boundaries, values.dtype)


@lru_cache(1024)
def _listed_edges(boundaries: tuple[float, ...], dtype: torch.dtype) -> Tensor:
    whole = not dtype.is_floating_point and all(isinstance(bound, int) for bound in boundaries)
    listed = torch.tensor(boundaries, dtype=torch.int64 if whole else torch.float64, device="cpu")
    _check_rising(listed)
    return _cast(listed.float() if dtype.is_floating_point else listed, dtype)


def _check_rising(boundaries: Tensor) -> None:
    if not bool((boundaries[1:] >= boundaries[:-1]).all()) or bool((boundaries != boundaries).any()):
        raise ValueError(f"boundaries must not decrease and have no NaN; got {boundaries.tolist()}. Sort them first.")


def _cast(boundaries: Tensor, dtype: torch.dtype) -> Tensor:
    if dtype.is_floating_point:
        return boundaries.to(dtype).double()
    if not boundaries.dtype.is_floating_point:
        return boundaries.long()
    up = boundaries.double().ceil()
    reached = up[up < 2.0**63]  # no integer is as large as the others
    return torch.where(reached >= -(2.0**63), reached, -(2.0**63)).long()


def _by_torch(values: list[Tensor], edges: list[Tensor]) -> list[Tensor]:
    """Floats in one search, integers in another."""
    found: dict[int, Tensor] = {}
    for floating, dtype in ((True, torch.float64), (False, torch.int64)):
        chosen = [c for c, part in enumerate(values) if part.is_floating_point() is floating]
        if chosen:
            parts = [values[c] for c in chosen]
            flat = torch.cat([part.detach().reshape(-1).to(dtype) for part in parts])
            found.update(zip(chosen, cut(_searched(flat, parts, [edges[c] for c in chosen]), parts), strict=True))
    return [found[c] for c in range(len(values))]


def _searched(flat: Tensor, parts: list[Tensor], edges: list[Tensor]) -> Tensor:
    """One binary search of all values, each between its column's edges."""
    begins = starts_of([len(edge) for edge in edges])
    joined = torch.cat([*edges, edges[0].new_zeros(1)])
    counts = torch.tensor([part.numel() for part in parts], device=flat.device)
    first = torch.repeat_interleave(torch.tensor(begins[:-1], device=flat.device), counts, output_size=len(flat))
    end = torch.repeat_interleave(torch.tensor(begins[1:], device=flat.device), counts, output_size=len(flat))
    low, high = first, end
    for _ in range(max(len(edge) for edge in edges).bit_length()):
        middle = (low + high) >> 1
        right = (low < high) & ~(joined[middle] > flat)
        low, high = torch.where(right, middle + 1, low), torch.where(right, high, torch.maximum(low, middle))
    return low - first


def _by_loops(values: list[Tensor], edges: list[Tensor]) -> list[Tensor]:
    from recis_core.backends.column_loops import bucketize as loops  # loads numba

    parts = [_readable(part.detach()) for part in values]
    starts = starts_of([part.numel() for part in parts])
    kinds = np.array([loops.KINDS.index(str(part.dtype).removeprefix("torch.")) for part in parts], np.int64)
    out = torch.empty(int(starts[-1]), dtype=torch.int64, device="cpu")
    counts = np.array([len(edge) for edge in edges], np.int64)
    loops.bucketize_columns(addresses(parts), kinds, starts, addresses(edges), counts, out.numpy())
    return cut(out, values)


def _readable(values: Tensor) -> Tensor:
    """Contiguous, in a dtype that the loops read; small ones are widened, which changes no value."""
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.float()
    elif values.dtype in (torch.int16, torch.int8, torch.uint8):
        values = values.int()
    return values.contiguous()
