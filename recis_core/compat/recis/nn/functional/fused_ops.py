"""Functions of many columns in one call. They run on any device, whatever their names say."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recis_core import ragged
from recis_core.compat.recis.nn.modules.ids import encoded


def fused_bucketize_gpu(values: Sequence[Tensor], boundaries: Sequence[Tensor]) -> list[Tensor]:
    """For each column the number of its boundaries that are at most the value, int64."""
    return ragged.bucketize(list(values), [b.to(v.device, v.dtype) for v, b in zip(values, boundaries, strict=True)])


def fused_uint64_mod_gpu(values: Sequence[Tensor], mods: Sequence[int] | Tensor) -> list[Tensor]:
    """ids of each column, read as unsigned, modulo the column's number."""
    return ragged.uint64_mod(list(values), torch.as_tensor(mods).tolist())


def fused_ids_encode_gpu(ids_list: Sequence[Tensor], table_ids: Sequence[int] | Tensor) -> Tensor:
    """All columns' ids in one tensor, each with its table's number in the upper 12 bits in place of the id's own."""
    numbers = torch.as_tensor(table_ids).tolist()
    return torch.cat([encoded(ids, number) for ids, number in zip(ids_list, numbers, strict=True)])


def fused_multi_hash(
    inputs: Sequence[Tensor], muls: Sequence[Tensor], primes: Sequence[Tensor], bucket_nums: Sequence[Tensor]
) -> list[Tensor]:
    """The hashes of each column, one column after another: (id · mul mod prime) mod buckets."""
    rules = ([numbers.cpu() for numbers in column] for column in (muls, primes, bucket_nums))
    found: list[list[Tensor]] = ragged.multi_hash_with(list(inputs), *rules)
    return [hashes for column in found for hashes in column]
