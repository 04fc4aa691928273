"""FillNull: a value where there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from recis_core.features.arguments import as_flag, as_number, as_whole
from recis_core.features.op import Op
from recis_core.features.value import check_kind, mapped
from recis_core.ragged import RaggedTensor


@dataclass(frozen=True, eq=False, repr=False)
class FillNull(Op):
    """`value` for each NaN, for each `null`, and for each empty row, which becomes a row of one value.

        FillNull(-1) of   3 NaN | | 5   →   3 -1 | -1 | 5

    Args:
      value: a number; an integer for columns of integers.
      null: a number that also means none, such as 0 or -1; None for no such number.
      empty_rows: False leaves empty rows of a RaggedTensor empty. A new value has weight 1.

    Takes numbers in any form; gives the same dtype in the same form.
    """

    value: float
    null: float | None = None
    empty_rows: bool = True
    takes: ClassVar[str] = "number"

    def __post_init__(self) -> None:
        self._set(value=_as_either(self.value, "value"), empty_rows=as_flag(self.empty_rows, "empty_rows"))
        if self.null is not None:
            self._set(null=_as_either(self.null, "null"))

    def check(self, value: Any) -> None:
        check_kind(value, "number")
        if not value.dtype.is_floating_point:
            for argument, number in (("value", self.value), ("null", self.null)):
                self._check_fits(argument, number, value.dtype)

    @staticmethod
    def _check_fits(argument: str, number: float | None, dtype: torch.dtype) -> None:
        limits = torch.iinfo(dtype)
        if number is not None and (isinstance(number, float) or not limits.min <= number <= limits.max):
            raise ValueError(f"{argument} must be an integer that {dtype} holds, as the column does; got {number!r}.")

    @classmethod
    def run(cls, ops: Sequence[FillNull], values: Sequence[Any]) -> list[Any]:
        return [op._filled(value) for op, value in zip(ops, values, strict=True)]

    def _filled(self, value: Any) -> Any:
        filled = mapped(value, self._replaced)
        if not isinstance(filled, RaggedTensor) or not self.empty_rows:
            return filled
        return _with_full_rows(filled, self.value)

    def _replaced(self, values: Tensor) -> Tensor:
        if values.dtype.is_floating_point:
            values = values.nan_to_num(self.value, math.inf, -math.inf)
        if self.null is None:
            return values
        filler = torch.full((), self.value, dtype=values.dtype, device=values.device)
        return torch.where(values == self.null, filler, values)


def _as_either(value: Any, argument: str) -> float:
    """An int stays one."""
    least, most = -(1 << 63), (1 << 63) - 1
    return as_whole(value, argument, least, most) if isinstance(value, int) else as_number(value, argument)


def _with_full_rows(value: RaggedTensor, number: float) -> RaggedTensor:
    """Each empty row of the last level as a row of `number`, of weight 1."""
    *outer, offsets = value.offsets()
    lengths = offsets.diff()
    empty = lengths == 0
    shift = torch.cat([empty.new_zeros(1, dtype=torch.int64), empty.cumsum(0)])
    grown = offsets + shift
    row = torch.repeat_interleave(
        torch.arange(len(lengths), device=offsets.device), lengths, output_size=len(value.values())
    )
    place = torch.arange(len(row), device=offsets.device) + shift[row]

    def spread(values: Tensor, filler: float) -> Tensor:
        total = len(values) + int(shift[-1])
        out = torch.full((total, *values.shape[1:]), filler, dtype=values.dtype, device=values.device)
        return out.index_copy(0, place, values)

    weight = value.weight()
    weights = None if weight is None else spread(weight, 1)
    return RaggedTensor(spread(value.values(), number), [*outer, grown], weights, _widened(value.dense_shape))


def _widened(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return (*sizes[:-1], max(1, sizes[-1]) if sizes[-1] != -1 else -1)
