"""Lists of bytes to 64-bit hashes.

Sizes: C columns, L bytes, N lists of bytes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from recis_core.hashing.byte_hashes import DJB2, SDBM, polynomial
from recis_core.hashing.byte_words import ByteWords
from recis_core.hashing.columns import as_columns, check_dtype, device_of, is_many, runs_loops, starts_of
from recis_core.hashing.farmhash import farm64
from recis_core.hashing.murmur import murmur64

Tensors = Sequence[Tensor]


@overload
def farmhash(data: Tensor, offsets: Tensor) -> Tensor: ...
@overload
def farmhash(data: Tensors, offsets: Tensors) -> list[Tensor]: ...
def farmhash(data: Tensor | Tensors, offsets: Tensor | Tensors) -> Tensor | list[Tensor]:
    """FarmHash of lists of bytes: Fingerprint64, which is farmhashna's Hash64.

        farmhash(torch.tensor([0, 1, 2, 1, 2, 3], dtype=torch.uint8), torch.tensor([0, 3, 6]))
        # [-7736835464683084646, -5546720800891377920]

    Args:
      data: uint8 or int8 [L], whose bits count; or a list of columns.
      offsets: int64 or int32 [N + 1], from 0 to L; for a list of columns as many.

    Returns:
      int64 [N], the hash's 64 bits; for columns a list, in one call.

    Raises:
      TypeError, ValueError: dtypes or shapes do not fit; offsets decrease, or do not run from 0 to L. Offsets on other
        devices than the CPU are checked under RECIS_CHECK=1.

    As google/farmhash, farmhashna.
    """
    return _hashed("farm", data, offsets)


@overload
def murmurhash(data: Tensor, offsets: Tensor, seed: int = 0) -> Tensor: ...
@overload
def murmurhash(data: Tensors, offsets: Tensors, seed: int = 0) -> list[Tensor]: ...
def murmurhash(data: Tensor | Tensors, offsets: Tensor | Tensors, seed: int = 0) -> Tensor | list[Tensor]:
    """MurmurHash64A of lists of bytes, words read little-endian; seed from 0 to 2**64 - 1. Else as `farmhash`.

    As Austin Appleby's MurmurHash2 for 64-bit platforms.
    """
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"seed must be from 0 to 2**64 - 1; got {seed}.")
    return _hashed("murmur", data, offsets, seed)


@overload
def sdbm(data: Tensor, offsets: Tensor) -> Tensor: ...
@overload
def sdbm(data: Tensors, offsets: Tensors) -> list[Tensor]: ...
def sdbm(data: Tensor | Tensors, offsets: Tensor | Tensors) -> Tensor | list[Tensor]:
    """sdbm of lists of bytes: h = 65599 · h + byte from h = 0 on, in 64 bits, bytes from 0 to 255. Else as `farmhash`."""
    return _hashed("sdbm", data, offsets)


@overload
def djb2(data: Tensor, offsets: Tensor) -> Tensor: ...
@overload
def djb2(data: Tensors, offsets: Tensors) -> list[Tensor]: ...
def djb2(data: Tensor | Tensors, offsets: Tensor | Tensors) -> Tensor | list[Tensor]:
    """djb2 of lists of bytes: h = 33 · h + byte from h = 5381 on, in 64 bits, bytes from 0 to 255. Else as `farmhash`."""
    return _hashed("djb2", data, offsets)


def _hashed(kind: str, data: Any, offsets: Any, seed: int = 0) -> Any:
    columns, bounds = _checked(data, offsets)
    device = device_of(columns, "data")
    hashes = _by_loops if runs_loops(device) else _by_torch
    out = hashes(kind, columns, bounds, seed)
    pieces = list(out.split([len(b) - 1 for b in bounds])) if bounds else []
    return pieces if is_many(data) else pieces[0]


def _checked(data: Any, offsets: Any) -> tuple[list[Tensor], list[Tensor]]:
    columns, bounds = as_columns(data), as_columns(offsets)
    if len(columns) != len(bounds):
        raise ValueError(f"offsets must be as many as columns of data = {len(columns)}; got {len(bounds)}.")
    device_of([*columns, *bounds], "data and offsets")
    check_dtype(columns, (torch.uint8, torch.int8), "data")
    check_dtype(bounds, (torch.int64, torch.int32), "offsets")
    for column, bound in zip(columns, bounds, strict=True):
        if column.dim() != 1:
            raise ValueError(f"data must be one-dimensional, [L]; got shape {tuple(column.shape)}.")
        if bound.dim() != 1 or len(bound) == 0:
            raise ValueError(f"offsets must be [N + 1], [0] for no lists; got shape {tuple(bound.shape)}.")
        if runs_loops(column.device):
            _check_ends(bound, len(column))  # the loops check what lies between
        elif column.device.type == "cpu" or os.environ.get("RECIS_CHECK") == "1":
            _check_ends(bound, len(column))
            _check_rising(bound)
    return [column.contiguous() for column in columns], [bound.contiguous() for bound in bounds]


def _check_ends(offsets: Tensor, size: int) -> None:
    first, last = int(offsets[0]), int(offsets[-1])
    if first != 0 or last != size:
        raise ValueError(f"offsets must run from 0 to len(data) = {size}; they run from {first} to {last}.")


def _check_rising(offsets: Tensor) -> None:
    falls = offsets[1:] < offsets[:-1]
    if bool(falls.any()):
        _refuse_falling(offsets, int(falls.nonzero()[0]))


def _refuse_falling(offsets: Tensor, at: int) -> None:
    raise ValueError(
        f"offsets must not decrease; got offsets[{at}] = {int(offsets[at])}, offsets[{at + 1}] = {int(offsets[at + 1])}."
    )


def _by_loops(kind: str, data: list[Tensor], offsets: list[Tensor], seed: int) -> Tensor:
    from recis_core.backends.column_loops import hash_texts as loops  # loads numba

    columns, starts = np.zeros(len(data), loops.COLUMN), starts_of([len(bound) - 1 for bound in offsets])
    for column, letters, bound in zip(columns, data, offsets, strict=True):
        column["data"], column["size"], column["places"] = letters.data_ptr(), len(letters), bound.data_ptr()
        column["layout"] = loops.OFFSETS64 if bound.dtype == torch.int64 else loops.OFFSETS32
    out = torch.empty(int(starts[-1]), dtype=torch.int64, device="cpu")
    wrong = loops.hash_columns(kind, columns, starts, out.numpy(), seed)
    if wrong is not None:
        c, i = wrong
        bound = offsets[c]
        outside = (bound[i : i + 2] < 0) | (bound[i : i + 2] > len(data[c]))
        _check_rising(bound)
        raise ValueError(f"offsets must lie from 0 to len(data); got {bound[i : i + 2][outside].tolist()} at {i}.")
    return out


def _by_torch(kind: str, data: list[Tensor], offsets: list[Tensor], seed: int) -> Tensor:
    begins = np.cumsum([0, *(len(column) for column in data)]).tolist()
    if not data:
        return torch.zeros(0, dtype=torch.int64, device="cpu")
    text = ByteWords(torch.cat([column.view(torch.uint8) for column in data]))
    beg = torch.cat([bound[:-1].long() + begin for bound, begin in zip(offsets, begins, strict=False)])
    length = torch.cat([bound.diff().long() for bound in offsets])
    return hash_words(kind, text, beg, length, seed)


def hash_words(kind: str, text: ByteWords, beg: Tensor, length: Tensor, seed: int = 0) -> Tensor:
    """int64 [N]: the hashes of `length` bytes from `beg` on, in plain torch."""
    if kind == "farm":
        return farm64(text, beg, length)
    if kind == "murmur":
        return murmur64(text, beg, length, seed)
    return polynomial(text, beg, length, *(SDBM if kind == "sdbm" else DJB2))
