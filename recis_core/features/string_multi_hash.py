"""StringMultiHash: up to four hashes of an id's decimal text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from recis_core.features.arguments import as_text
from recis_core.features.id_multi_hash import as_sizes, named
from recis_core.features.op import Op
from recis_core.features.value import check_kind, flat
from recis_core.hashing import decimal_multi_hash


@dataclass(frozen=True, eq=False, repr=False)
class StringMultiHash(Op):
    """{"multi_hash_0": …}: FarmHash, MurmurHash64A, sdbm and djb2 of `prefix` and the id's decimal text, each mod a size.

    Args:
      num_buckets: one to four sizes; hashes are taken as unsigned.
      prefix: text before the digits.

    Takes integers in any form; each result is int64 in the same form. As RecIS.
    """

    num_buckets: tuple[int, ...]
    prefix: str = ""
    takes: ClassVar[str] = "int"

    def __post_init__(self) -> None:
        self._set(num_buckets=as_sizes(self.num_buckets), prefix=as_text(self.prefix, "prefix"))

    def check(self, value: Any) -> None:
        check_kind(value, "int")

    @classmethod
    def run(cls, ops: Sequence[StringMultiHash], values: Sequence[Any]) -> list[Any]:
        ids = [flat(value).to(torch.int64) for value in values]
        found = decimal_multi_hash(ids, [list(op.num_buckets) for op in ops], [op.prefix for op in ops])
        return [named(value, hashes) for value, hashes in zip(values, found, strict=True)]
