"""Hashes of the decimal text of ids, as StringMultiHash takes them: no text is made.

Sizes: C columns, N ids of all columns, J hashes of an id, at most 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from recis_core.hashing.byte_lists import hash_words
from recis_core.hashing.byte_words import ByteWords
from recis_core.hashing.columns import (
    addresses,
    as_columns,
    check_dtype,
    column_of_each,
    device_of,
    each,
    is_many,
    joined,
    runs_loops,
    starts_of,
)
from recis_core.hashing.unsigned import shifted, unsigned_mod

KINDS = ("farm", "murmur", "sdbm", "djb2")
MOST_DIGITS = 19
Column = tuple[Tensor, bytes, list[tuple[str, int]]]  # ids, prefix, and of each hash its kind and modulus, 0 for none


@overload
def hash_decimals(ids: Tensor, kind: str = "farm", prefix: str = "") -> Tensor: ...
@overload
def hash_decimals(
    ids: Sequence[Tensor], kind: str | Sequence[str] = "farm", prefix: str | Sequence[str] = ""
) -> list[Tensor]: ...
def hash_decimals(
    ids: Tensor | Sequence[Tensor], kind: str | Sequence[str] = "farm", prefix: str | Sequence[str] = ""
) -> Tensor | list[Tensor]:
    """The hash of each id's decimal text, after a prefix.

        hash_decimals(torch.tensor([123]), "djb2")        # [193432059], djb2 of "123"

    Args:
      ids: int64 of any shape, or a list of columns.
      kind: "farm", "murmur", "sdbm" or "djb2"; for columns one for all, or a list.
      prefix: text before the digits, in UTF-8; for columns one for all, or a list.

    Returns:
      int64 of the shape of ids, the hash's 64 bits; for columns a list, in one call.
    """
    columns = as_columns(ids)
    kinds, prefixes = each(kind, len(columns), "kind"), each(prefix, len(columns), "prefix")
    made = _hashed([(c, p.encode(), [(k, 0)]) for c, p, k in zip(columns, prefixes, kinds, strict=True)])
    pieces = [hashes[0] for hashes in made]
    return pieces if is_many(ids) else pieces[0]


@overload
def decimal_multi_hash(ids: Tensor, num_buckets: Sequence[int], prefix: str = "") -> list[Tensor]: ...
@overload
def decimal_multi_hash(
    ids: Sequence[Tensor], num_buckets: Sequence[int] | Sequence[Sequence[int]], prefix: str | Sequence[str] = ""
) -> list[list[Tensor]]: ...
def decimal_multi_hash(ids: Any, num_buckets: Any, prefix: str | Sequence[str] = "") -> Any:
    """FarmHash, MurmurHash64A, sdbm and djb2 of each id's decimal text, each modulo a number of buckets of its own.

    Args:
      ids: int64 of any shape, or a list of columns.
      num_buckets: one to four integers from 1 on; hash j, taken as unsigned, modulo num_buckets[j]. For columns one such
        list for all, or a list of lists.
      prefix: text before the digits, in UTF-8; for columns one for all, or a list.

    Returns:
      A list of as many int64 tensors as buckets, of the shape of ids; for columns a list of such lists, in one call.
    """
    columns, buckets = as_columns(ids), list(num_buckets)
    nested = buckets if is_many(ids) and buckets and is_many(buckets[0]) else [buckets] * len(columns)
    if len(nested) != len(columns):
        raise ValueError(
            f"num_buckets must be a list for all {len(columns)} columns, or one a column; got {len(nested)}."
        )
    wanted = [list(zip(KINDS, _checked_buckets(found), strict=False)) for found in nested]
    prefixes = each(prefix, len(columns), "prefix")
    made = _hashed([(c, p.encode(), w) for c, p, w in zip(columns, prefixes, wanted, strict=True)])
    return made if is_many(ids) else made[0]


def _checked_buckets(num_buckets: Sequence[int]) -> list[int]:
    if not 1 <= len(num_buckets) <= len(KINDS) or not all(1 <= int(n) < 1 << 63 for n in num_buckets):
        raise ValueError(f"num_buckets must be 1 to {len(KINDS)} integers from 1 on; got {list(num_buckets)}.")
    return [int(n) for n in num_buckets]


def _hashed(columns: list[Column]) -> list[list[Tensor]]:
    device = device_of([ids for ids, _, _ in columns], "ids")
    check_dtype([ids for ids, _, _ in columns], (torch.int64,), "ids")
    for _, _, wanted in columns:
        for kind, _ in wanted:
            if kind not in KINDS:
                raise ValueError(f"kind must be {', '.join(KINDS)}; got {kind!r}.")
    return (_by_loops if not columns or runs_loops(device) else _by_torch)(columns)


def _by_loops(columns: list[Column]) -> list[list[Tensor]]:
    from recis_core.backends.column_loops import decimals as loops  # loads numba
    from recis_core.backends.column_loops.hash_texts import KINDS as CODES

    tensors = [ids.contiguous() for ids, _, _ in columns]
    widest = max((len(wanted) for _, _, wanted in columns), default=1)
    kinds, mods = np.full((len(columns), widest), -1), np.zeros((len(columns), widest), np.uint64)
    for c, (_, _, wanted) in enumerate(columns):
        for j, (kind, mod) in enumerate(wanted):
            kinds[c, j], mods[c, j] = CODES.index(kind), mod
    sizes = [ids.numel() for ids in tensors]
    outs = starts_of([size * len(wanted) for size, (_, _, wanted) in zip(sizes, columns, strict=True)])
    out = torch.empty(int(outs[-1]), dtype=torch.int64, device="cpu")
    prefixes = [prefix for _, prefix, _ in columns]
    loops.hash_decimals(addresses(tensors), starts_of(sizes), prefixes, kinds, mods, outs, out.numpy())
    shapes = [(len(wanted), *ids.shape) for ids, _, wanted in columns]
    return [list(out[beg:end].view(shape)) for (beg, end), shape in zip(pairwise(outs.tolist()), shapes, strict=True)]


def _by_torch(columns: list[Column]) -> list[list[Tensor]]:
    """All texts of all columns at once; each kind of hash once for all of them, int64 [K, N]."""
    ids, prefixes = [found for found, _, _ in columns], [prefix for _, prefix, _ in columns]
    device, column = ids[0].device, column_of_each(ids)
    letters, lengths = _decimal_text(joined(ids, device), prefixes, column)
    text, begins = ByteWords(letters), lengths.cumsum(0) - lengths
    kinds = sorted({kind for _, _, wanted in columns for kind, _ in wanted})
    hashes = torch.stack([hash_words(kind, text, begins, lengths) for kind in kinds])
    widest = max(len(wanted) for _, _, wanted in columns)
    rules = [[(kinds.index(kind), mod) for kind, mod in wanted] for _, _, wanted in columns]
    rule = torch.tensor([found + [(0, 1)] * (widest - len(found)) for found in rules], device=device)
    which, mods = rule[column].permute(2, 1, 0)
    chosen = hashes.gather(0, which)
    chosen = unsigned_mod(chosen, mods.clamp(min=1)).where(mods > 0, chosen)
    parts = zip(chosen.split([part.numel() for part in ids], 1), columns, strict=True)
    return [[found.view(of.shape) for found in part[: len(wanted)]] for part, (of, _, wanted) in parts]


def _decimal_text(ids: Tensor, prefixes: list[bytes], column: Tensor) -> tuple[Tensor, Tensor]:
    """(uint8 characters of all ids, int64 [N] how many of each); column int64 [N] says which prefix."""
    device = ids.device
    negative = (ids < 0).long()
    unsigned = ids.where(ids >= 0, -ids)  # of -2**63 itself, which is right as an unsigned number
    last, rest = unsigned_mod(unsigned, 10), shifted(unsigned, 1) // 5
    powers = torch.tensor([10**k for k in range(MOST_DIGITS)], device=device)
    digits = 1 + (rest[:, None] >= powers).sum(1)
    sizes = torch.tensor([len(prefix) for prefix in prefixes], device=device)
    lengths = sizes[column] + negative + digits
    id_of = torch.repeat_interleave(torch.arange(len(ids), device=device), lengths)
    at = torch.arange(len(id_of), device=device) - (lengths.cumsum(0) - lengths)[id_of]
    from_right = lengths[id_of] - 1 - at
    digit = (rest[id_of] // powers[(from_right - 1).clamp(0, MOST_DIGITS - 1)] % 10).where(from_right > 0, last[id_of])
    text = (digit + ord("0")).where(from_right < digits[id_of], ord("-"))
    heads = torch.tensor([*b"".join(prefixes), 0], dtype=torch.int64, device=device)
    before, prefix_of = sizes.cumsum(0) - sizes, column[id_of]
    head = heads[(before[prefix_of] + at).clamp(max=len(heads) - 1)]
    return head.where(at < sizes[prefix_of], text).to(torch.uint8), lengths
