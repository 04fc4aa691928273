"""How often which values came: exactly up to a number of distinct values, then by cells of neighbouring floats.

A float's 64 bits, taken as an integer, rise with the float. A cell holds all floats whose bits are equal but for the
lowest `shift`: its relative width is 2^(shift−52). There are at most `most` cells; where a value would need one more, all
cells are joined in twos. So shift is the least for which all values seen need `most` cells or fewer, and does not depend
on their order, on batches or on merges. Each cell keeps its least value, so that boundaries are values that came.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from recis_core.features.observed import observed
from recis_core.features.op import Sketch

Array = np.ndarray[Any, Any]
HELD = 1 << 17  # values of batches that wait to be counted together


class ValueCells(Sketch):
    """quantiles: how many intervals of about equal counts are wanted. NaN is left out."""

    def __init__(self, quantiles: int, most: int) -> None:
        self._quantiles, self._most = quantiles, most
        self.shift = 0
        self._cells, self._counts, self._least = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
        self._waiting: list[Array] = []

    def add(self, value: Any) -> None:
        self._waiting.append(observed(value))
        if sum(map(len, self._waiting)) >= max(HELD, self._most):
            self._count_waiting()

    def _count_waiting(self) -> None:
        numbers = np.sort(np.concatenate([np.empty(0), *self._waiting]))
        self._waiting = []
        self._join(_bits(numbers) >> self.shift, np.ones(len(numbers), np.int64), numbers)

    def merge(self, other: ValueCells) -> None:
        for cells in (self, other):
            cells._count_waiting()
        self._coarsen(max(self.shift, other.shift))
        self._join(other._cells >> (self.shift - other.shift), other._counts, other._least)

    def _join(self, cells: Array, counts: Array, least: Array) -> None:
        """Add these to the cells, which are of the same shift."""
        both = np.concatenate([self._cells, cells])
        self._cells, at = np.unique(both, return_inverse=True)
        joined = np.zeros(len(self._cells), np.int64)
        np.add.at(joined, at, np.concatenate([self._counts, counts]))
        lowest = np.full(len(self._cells), np.inf)
        np.minimum.at(lowest, at, np.concatenate([self._least, least]))
        self._counts, self._least = joined, lowest
        while len(self._cells) > self._most:
            self._coarsen(self.shift + 1)

    def _coarsen(self, shift: int) -> None:
        if shift == self.shift:
            return
        cells, self.shift = self._cells >> (shift - self.shift), shift
        if len(cells):
            starts = np.flatnonzero(np.concatenate([[True], cells[1:] != cells[:-1]]))
            self._cells, self._least = cells[starts], self._least[starts]
            self._counts = np.add.reduceat(self._counts, starts)

    def numbers(self) -> dict[str, Any]:
        self._count_waiting()
        ends = np.cumsum(self._counts)
        if not len(ends):
            raise ValueError("there were no values to fit to: each was missing.")
        count = int(ends[-1])
        ranks = np.arange(1, self._quantiles) * count // self._quantiles
        at = np.searchsorted(ends, ranks, side="right")
        before = ranks - (ends[at] - self._counts[at]) if self.shift else np.zeros(1)
        boundaries = np.unique(self._least[at])
        boundaries = boundaries[boundaries > self._least[0]]  # the least value would have nothing below it
        return {
            "count": count,
            "boundaries": [float(value) for value in boundaries],
            "rank_error": float(max([0, *before.tolist()]) / count),
        }


def _bits(numbers: Array) -> Array:
    """int64 [N] that rises with float64 [N]."""
    bits = numbers.view(np.int64)
    return np.where(bits < 0, bits ^ np.int64((1 << 63) - 1), bits)


def rises(numbers: list[float]) -> bool:
    return all(low < high for low, high in pairwise(numbers))
