"""Unsigned modulo of ids. Sizes: C columns, N ids of all columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from recis_core.hashing.columns import (
    addresses,
    as_columns,
    column_of_each,
    cut,
    each,
    is_many,
    joined,
    runs_loops,
    starts_of,
)
from recis_core.hashing.unsigned import unsigned_mod
from recis_core.ragged.functional.columns import as_before, values_of
from recis_core.ragged.tensor import RaggedTensor


@overload
def uint64_mod(values: Tensor, mod: int) -> Tensor: ...
@overload
def uint64_mod(values: RaggedTensor, mod: int) -> RaggedTensor: ...
@overload
def uint64_mod(values: Sequence[Tensor | RaggedTensor], mod: int | Sequence[int]) -> list[Any]: ...
def uint64_mod(values: Any, mod: int | Sequence[int]) -> Any:
    """Each id, its 64 bits taken as unsigned, modulo `mod`.

        uint64_mod(torch.tensor([1001, -7808879811642834040]), 1000)        # [1, 576]

    Args:
      values: int64 of any shape, a RaggedTensor of them, or a list of columns.
      mod: 1 to 2**63 - 1; for columns one for all, or a list.

    Returns:
      int64 of the same kind and shape, 0 to mod - 1; for columns a list, in one call.
    """
    columns = as_columns(values)
    ids, mods = values_of(columns, (torch.int64,)), each(mod, len(columns), "mod")
    for m in mods:
        if not 1 <= int(m) < 1 << 63:
            raise ValueError(f"mod must be from 1 to 2**63 - 1; got {m}.")
    found = _by_loops(ids, mods) if not ids or runs_loops(ids[0].device) else _by_torch(ids, mods)
    made = [as_before(column, part) for column, part in zip(columns, found, strict=True)]
    return made if is_many(values) else made[0]


def _by_torch(ids: list[Tensor], mods: list[int]) -> list[Tensor]:
    if len(ids) == 1:
        return [unsigned_mod(ids[0], int(mods[0]))]
    by = torch.tensor(mods, device=ids[0].device)[column_of_each(ids)]
    return cut(unsigned_mod(joined(ids, ids[0].device), by), ids)


def _by_loops(ids: list[Tensor], mods: list[int]) -> list[Tensor]:
    from recis_core.backends.column_loops.unsigned_mod import mod_columns  # loads numba

    ids = [part.contiguous() for part in ids]
    starts = starts_of([part.numel() for part in ids])
    out = torch.empty(int(starts[-1]), dtype=torch.int64, device="cpu")
    mod_columns(addresses(ids), starts, np.array(mods, np.uint64), out.numpy())
    return cut(out, ids)
