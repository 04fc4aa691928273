"""Ids that users pass, int64, narrower integers or NumPy arrays, as int64 tensors.

Sizes: N ids.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

WIDENED = (torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.bool)
HASHED = "Ids of text are their hashes: recis_core.io.hash_strings, or id_feature of a reader."


def as_ids(ids: Any, what: str) -> Tensor:
    """int64 tensor of a tensor or NumPy array of integers or bools; uint64 keeps its bits. Errors name them `what`.

    Raises:
      TypeError: ids are floats, text or anything else.
    """
    if isinstance(ids, np.ndarray):
        ids = _of_array(ids, what)
    if not isinstance(ids, Tensor):
        raise TypeError(f"{what} must be integers in a Tensor or a NumPy array; got {_described(ids)}. {_way_out(ids)}")
    if ids.dtype == torch.int64:
        return ids
    if ids.dtype in WIDENED:
        return ids.to(torch.int64)
    if ids.dtype == torch.uint64:
        return ids.view(torch.int64)
    raise TypeError(
        f"{what} must be integers; got {ids.dtype}. Floats do not hold every id of 64 bits: keep ids integers where they are "
        "read (id_feature, or --id-columns of recis train)."
    )


def _of_array(ids: np.ndarray, what: str) -> Tensor:
    if ids.dtype.kind in "USOT":
        raise TypeError(f"{what} must be integers; got an array of {_described_items(ids)}. {HASHED}")
    if ids.dtype.kind not in "iubf":
        raise TypeError(
            f"{what} must be integers; got an array of {ids.dtype}. Take its integers: ids.astype('int64')."
        )
    native = ids.astype(ids.dtype.newbyteorder("="), copy=False)
    native = native.view(f"{ids.dtype.kind}{ids.dtype.itemsize}")  # torch does not take longlong
    return torch.from_numpy(native if native.flags.carray else native.copy())


def _described_items(ids: np.ndarray) -> str:
    return f"{type(ids.flat[0]).__name__} objects" if ids.dtype.kind == "O" and ids.size else str(ids.dtype)


def _described(ids: Any) -> str:
    if isinstance(ids, list | tuple) and ids:
        return f"a {type(ids).__name__} of {type(ids[0]).__name__}"
    return type(ids).__name__


def _way_out(ids: Any) -> str:
    first = ids[0] if isinstance(ids, list | tuple) and ids else ids
    if isinstance(first, str | bytes):
        return HASHED
    if callable(getattr(ids, "to_numpy", None)):
        return "Give its array: .to_numpy()."
    return "torch.tensor(ids) makes one of a list of integers, RaggedTensor one of rows of unequal length."
