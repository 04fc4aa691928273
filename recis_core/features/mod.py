"""Mod: unsigned remainder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from recis_core.features.arguments import as_whole
from recis_core.features.op import Op
from recis_core.features.value import check_kind, flat, like
from recis_core.ragged import uint64_mod


@dataclass(frozen=True, eq=False, repr=False)
class Mod(Op):
    """Ids mod `mod_value`, ids read as unsigned 64-bit integers: −7808879811642834040 mod 1000 is 576.

    Takes integers, as a tensor of any shape, a sparse tensor or a RaggedTensor; gives int64 in the same form.
    """

    mod_value: int
    takes: ClassVar[str] = "int"

    def __post_init__(self) -> None:
        self._set(mod_value=as_whole(self.mod_value, "mod_value"))

    def check(self, value: Any) -> None:
        check_kind(value, "int")

    @classmethod
    def run(cls, ops: Sequence[Mod], values: Sequence[Any]) -> list[Any]:
        found = uint64_mod([flat(value).to(torch.int64) for value in values], [op.mod_value for op in ops])
        return [like(value, result) for value, result in zip(values, found, strict=True)]
