"""Mean and standard deviation of a stream of floats, from exact sums.

Sums of x and of x² are integers of any length, so that no order of values, split into batches or merge of parts changes a
bit of the result, and no cancellation does either: a Welford sum merged from parts has other last bits for other parts.

A float is m·2^(e−53) with an integer m of 53 bits. Values of one e are added up in float64 by halves of m, of 27 bits at
most, which is exact for 2^25 values at a time.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from recis_core.features.observed import observed
from recis_core.features.op import Sketch

LOW = 1 << 27
UNIT = 1200  # sums count in 2^-UNIT, squares in 2^-2·UNIT: below the least float's last bit
MANY = 1 << 25

Array = np.ndarray[Any, Any]


class ExactMoments(Sketch):
    """logarithm: take ±log1p|x| of each value x. NaN is left out."""

    def __init__(self, logarithm: bool) -> None:
        self._logarithm = logarithm
        self.count, self._sum, self._squares = 0, 0, 0

    def add(self, value: Any) -> None:
        numbers = observed(value)
        if self._logarithm:
            numbers = np.copysign(np.log1p(np.abs(numbers)), numbers)
        for start in range(0, len(numbers), MANY):
            self._add(numbers[start : start + MANY])

    def _add(self, numbers: Array) -> None:
        fractions, exponents = np.frexp(numbers)
        whole = np.ldexp(fractions, 53).astype(np.int64)
        high, low = whole // LOW, whole % LOW  # |high| ≤ 2^26
        places = exponents.astype(np.int64) - 53
        self.count += len(numbers)
        self._sum += _total((high, 27), (low, 0), places, UNIT)
        squares = ((high * high, 54), (2 * high * low, 27), (low * low, 0))
        halves = [part for x, by in squares for part in ((x // LOW, by + 27), (x % LOW, by))]
        self._squares += sum(_total(part, (np.zeros_like(low), 0), 2 * places, 2 * UNIT) for part in halves)

    def merge(self, other: ExactMoments) -> None:
        self.count, self._sum = self.count + other.count, self._sum + other._sum
        self._squares += other._squares

    def numbers(self) -> dict[str, Any]:
        if not self.count:
            raise ValueError("there were no values to fit to: each was missing.")
        mean = Fraction(self._sum, self.count << UNIT)
        variance = Fraction(self._squares, self.count << 2 * UNIT) - mean * mean
        try:
            return {"count": self.count, "mean": float(mean), "std": math.sqrt(float(variance))}
        except OverflowError:
            raise ValueError("values are too large for their variance to be a float64; clip them first.") from None


def _total(first: tuple[Array, int], second: tuple[Array, int], places: Array, unit: int) -> int:
    """Σ (first·2^by + second·2^by)·2^places, in 2^-unit."""
    if len(places) == 0:
        return 0
    least, total = int(places.min()), 0
    for values, by in (first, second):
        sums = np.bincount(places - least, weights=values)
        total += sum(int(sums[n]) << (unit + least + n + by) for n in np.flatnonzero(sums).tolist())
    return total
