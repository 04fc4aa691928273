"""Quantile: numbers to intervals that hold about as many values each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from recis_core.features.arguments import as_number, as_numbers, as_whole
from recis_core.features.bucketize import boundaries_for, in_intervals
from recis_core.features.op import FittedOp
from recis_core.features.value import check_kind
from recis_core.features.value_cells import ValueCells, rises


@dataclass(frozen=True, eq=False, repr=False)
class Quantile(FittedOp):
    """The number of fitted boundaries that are at most the value, as Bucketize counts; below num_buckets.

    A boundary is the value at a rank of k/num_buckets among all that the fit saw; equal ones count once, so a column with
    few values has fewer buckets. NaN is left out of the fit and goes last; FillNull before gives it a value.

    Args:
      num_buckets: intervals, 2 at least.
      max_values: boundaries are exact up to so many distinct values. Beyond, floats are counted by cells of 2^-k of
        their size, with the largest k for which so many cells suffice, and a boundary is the least value of its cell.
      fitted: {"count", "boundaries", "rank_error"}: no boundary's rank is further below the wanted one than the share
        rank_error of all values; it is 0 where exact.

    Takes numbers in any form; gives int64 in the same form. Integers are fitted as float64. Any
    split of the data, or order of it, gives the same boundaries.
    """

    num_buckets: int
    max_values: int = 1 << 17
    takes: ClassVar[str] = "number"

    def __post_init__(self) -> None:
        self._set(num_buckets=as_whole(self.num_buckets, "num_buckets", 2))
        self._set(max_values=as_whole(self.max_values, "max_values", 2, 1 << 26))
        super().__post_init__()

    def sketch(self) -> ValueCells:
        return ValueCells(self.num_buckets, self.max_values)

    def read_fitted(self, numbers: Any) -> dict[str, Any]:
        found = require_keys(numbers, ("count", "boundaries", "rank_error"))
        boundaries = list(as_numbers(found["boundaries"], "fitted boundaries"))
        if not rises(boundaries) or len(boundaries) >= self.num_buckets:
            raise ValueError(f"fitted boundaries must rise and be fewer than {self.num_buckets}; got {boundaries}.")
        return {
            "count": as_whole(found["count"], "fitted count"),
            "boundaries": boundaries,
            "rank_error": as_number(found["rank_error"], "fitted rank_error"),
        }

    def check_input(self, value: Any) -> None:
        check_kind(value, "number")

    @classmethod
    def run(cls, ops: Sequence[Quantile], values: Sequence[Any]) -> list[Any]:
        bounds = [
            boundaries_for(op, value, (op.fitted or {})["boundaries"]) for op, value in zip(ops, values, strict=True)
        ]
        return in_intervals(values, bounds)


def require_keys(numbers: Any, keys: Sequence[str]) -> Mapping[str, Any]:
    """Raises TypeError or ValueError unless fitted numbers have these names."""
    if not isinstance(numbers, Mapping):
        raise TypeError(f"fitted must be a mapping of {', '.join(keys)}; got {numbers!r}.")
    if set(numbers) != set(keys):
        raise ValueError(f"fitted must hold {', '.join(keys)}; got {', '.join(map(str, numbers)) or 'nothing'}.")
    return numbers
