"""Buckets and remainders of one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recis_core import ragged


def bucketize(input: Tensor, boundaries: Tensor | Sequence[float]) -> Tensor:
    """The number of boundaries that are at most each value, int64; boundaries are cast to the input's dtype."""
    edges = torch.as_tensor(boundaries).to(input.device, input.dtype)
    return ragged.bucketize(input, edges)


def bucketize_mod(input: Tensor, bucket: int) -> Tensor:
    """ids int64, read as unsigned, modulo bucket."""
    return ragged.uint64_mod(input, int(bucket))


def multi_hash(
    input: Tensor,
    muls: Tensor | Sequence[int],
    primes: Tensor | Sequence[int],
    bucket_num: Tensor | Sequence[int] | int,
) -> list[Tensor]:
    """Four hashes of each id: (id · mul mod prime) mod buckets. bucket_num: one number for all, or one each."""
    buckets = [bucket_num] * 4 if isinstance(bucket_num, int) else bucket_num
    found: list[Tensor] = ragged.multi_hash_with(input, *(torch.as_tensor(n).cpu() for n in (muls, primes, buckets)))
    return found
