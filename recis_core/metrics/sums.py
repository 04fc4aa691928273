"""Metrics of sums over rows: a mean of each row's value, weighted, in float64.

Sizes: N rows.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from recis_core.metrics.streamed import State, Streamed


class OfSums(Streamed):
    """A metric of one vector of sums, Σ weights · `_terms`; the first of them is the sum of weights itself."""

    weighted = True
    _count: int  # of terms, besides the sum of weights

    def reset(self) -> None:
        """Drop all rows."""
        self._sums = np.zeros(1 + self._count)

    def _add(self, p: np.ndarray, y: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> None:
        rows = [np.ones(len(p)), *self._terms(p, y)]
        self._sums = self._sums + [float((weights * row).sum()) for row in rows]

    @abstractmethod
    def _terms(self, p: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
        """Of each row, [N] each."""

    @property
    def undefined(self) -> str | None:
        """Why the value is undefined, in words; None if it is defined."""
        return None if self._sums[0] else "there are no rows, or all weights are 0"

    def _packed(self) -> State:
        return {"sums": self._sums[None]}

    def _merge(self, state: State) -> None:
        self._sums = self._sums + state["sums"][0]
