"""IDMultiHash: up to four hashes of an id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from recis_core.features.arguments import as_list, as_whole
from recis_core.features.op import Op
from recis_core.features.value import check_kind, flat, like
from recis_core.ragged import multi_hash

MOST = 4


@dataclass(frozen=True, eq=False, repr=False)
class IDMultiHash(Op):
    """{"multi_hash_0": …}, one hash for each of up to four sizes: ((x·m mod p) + p) mod p mod size.

    m is 1, 3, 5, 7, and p the largest prime that is at most 29, 47, 67 or 83 times the size; mod as C has it.

        IDMultiHash([1000, 1000]) of 1001, 1002   →   multi_hash_0: 1, 2   multi_hash_1: 3, 6

    Takes integers in any form; each result is int64 in the same form. As RecIS.
    """

    num_buckets: tuple[int, ...]
    takes: ClassVar[str] = "int"

    def __post_init__(self) -> None:
        self._set(num_buckets=as_sizes(self.num_buckets))

    def check(self, value: Any) -> None:
        check_kind(value, "int")

    @classmethod
    def run(cls, ops: Sequence[IDMultiHash], values: Sequence[Any]) -> list[Any]:
        ids = [flat(value).to(torch.int64) for value in values]
        found = multi_hash(ids, [list(op.num_buckets) for op in ops])
        return [named(value, hashes) for value, hashes in zip(values, found, strict=True)]


def as_sizes(value: Any) -> tuple[int, ...]:
    sizes = tuple(as_whole(size, f"num_buckets[{n}]") for n, size in enumerate(as_list(value, "num_buckets")))
    if not 1 <= len(sizes) <= MOST:
        raise ValueError(f"num_buckets must have 1 to {MOST} sizes; got {len(sizes)}.")
    return sizes


def named(value: Any, hashes: Sequence[Any]) -> dict[str, Any]:
    return {f"multi_hash_{n}": like(value, hashed) for n, hashed in enumerate(hashes)}
