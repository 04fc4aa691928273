"""Bucketize: numbers to the index of their interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from recis_core.features.arguments import as_numbers
from recis_core.features.op import Op
from recis_core.features.value import check_kind, flat, like
from recis_core.ragged import bucketize


@dataclass(frozen=True, eq=False, repr=False)
class Bucketize(Op):
    """The number of boundaries that are at most the value: a value equal to a boundary goes right. NaN goes last.

        Bucketize([0, 100, 200]) of .5, 100, 250   →   1, 2, 3

    Args:
      boundary: a list, taken as float32 as in RecIS, or a tensor; not decreasing. For floats boundaries are cast to the
        dtype of the values; integers are compared exactly.

    Takes numbers in any form; gives int64 in the same form.
    """

    boundary: tuple[float, ...]
    takes: ClassVar[str] = "number"

    def __post_init__(self) -> None:
        exact = isinstance(self.boundary, Tensor)
        numbers = as_numbers(self.boundary, "boundary")
        if not exact:
            numbers = tuple(torch.tensor(numbers, dtype=torch.float32, device="cpu").tolist())
        check_rising(numbers, "boundary")
        self._set(boundary=numbers)

    def check(self, value: Any) -> None:
        check_kind(value, "number")

    @classmethod
    def run(cls, ops: Sequence[Bucketize], values: Sequence[Any]) -> list[Any]:
        return in_intervals(values, [op._bounds(value) for op, value in zip(ops, values, strict=True)])

    def _bounds(self, value: Any) -> Tensor | list[float]:
        return boundaries_for(self, value, self.boundary)


def check_rising(numbers: Sequence[float], argument: str) -> None:
    for n, (low, high) in enumerate(pairwise(numbers)):
        if low > high:
            raise ValueError(
                f"{argument} must not decrease; got {argument}[{n}] = {low}, {argument}[{n + 1}] = {high}."
            )


def boundaries_for(op: Op, value: Any, numbers: Sequence[float]) -> Tensor | list[float]:
    """Boundaries as `ragged.bucketize` takes them: a list, which it reads and checks once, where float32 holds each."""
    listed = op._kept("listed", lambda: list(numbers) if _are_float32(numbers) else None)
    if listed is not None:
        return listed
    dtype = value.dtype if value.dtype.is_floating_point else torch.float64
    make = lambda: torch.tensor(numbers, dtype=torch.float64, device="cpu").to(dtype).to(value.device)  # noqa: E731
    return op._kept((dtype, value.device), make)


def _are_float32(numbers: Sequence[float]) -> bool:
    return torch.tensor(numbers, dtype=torch.float32, device="cpu").tolist() == list(numbers)


def in_intervals(values: Sequence[Any], boundaries: Sequence[Tensor | list[float]]) -> list[Any]:
    """For each column the number of its boundaries that are at most the value, in one call."""
    found = bucketize([flat(value) for value in values], list(boundaries))
    return [like(value, result) for value, result in zip(values, found, strict=True)]
