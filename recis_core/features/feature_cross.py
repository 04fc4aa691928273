"""FeatureCross: pairs of the ids of two columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from recis_core.features.op import Op
from recis_core.features.value import check_kind, check_rows, described, mapped
from recis_core.ragged import feature_cross


@dataclass(frozen=True, eq=False, repr=False)
class FeatureCross(Op):
    """For each row, each distinct id of x with each distinct id of y, as one id.

    The id is MurmurHash64A, seed 0, of the 16 little-endian bytes x‖y; its weight is w_x·w_y, where the first weight of an
    id counts and none is 1.

    Takes two columns of integers, each a RaggedTensor with one level of offsets or a tensor [B] or [B, F]; gives a
    weighted RaggedTensor. As in RecIS it has as many rows as the shorter one.
    """

    takes: ClassVar[str] = "int"

    def check(self, value: Any) -> None:
        if not isinstance(value, list) or len(value) != 2:
            raise TypeError(f"the input must be two columns, of SelectFields([x, y]); got {described(value)}.")
        for n, column in enumerate(value):
            check_kind(column, "int", f"column {n}")
            check_rows(column, f"column {n}")

    @classmethod
    def run(cls, ops: Sequence[FeatureCross], values: Sequence[Any]) -> list[Any]:
        columns = [[mapped(column, lambda ids: ids.to(torch.int64)) for column in pair] for pair in values]
        return list(feature_cross([x for x, _ in columns], [y for _, y in columns]))
