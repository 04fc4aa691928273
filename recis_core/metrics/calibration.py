"""How far predicted probabilities are from shares of clicks: in all, and by bucket.

Sizes: N rows, K buckets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recis_core.metrics.streamed import State, Streamed
from recis_core.metrics.sums import OfSums


class Calibration(OfSums):
    """Predicted clicks over clicks, Σ w·p / Σ w·y: 1 is right, 1.1 predicts a tenth too many.

    Takes weights. NaN where there is no click. Memory: three numbers. torchmetrics has none.
    """

    _count = 2

    def __init__(self) -> None:
        self.reset()

    def __repr__(self) -> str:
        return "Calibration()"

    def _terms(self, p: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
        return p, y

    @property
    def undefined(self) -> str | None:
        """Why the value is undefined, in words; None if it is defined."""
        return None if self._sums[2] else "it needs a label of 1 with a weight above 0; there is none"

    def _value(self) -> float:
        return float(self._sums[1] / self._sums[2])


@dataclass(frozen=True)
class Bucket:
    """Predictions of [low, high): weight, Σ w. predicted, Σ w·p/Σ w. clicked, Σ w·y/Σ w; both NaN where weight is 0."""

    low: float
    high: float
    weight: float
    predicted: float
    clicked: float


class CalibrationByBucket(Streamed):
    """Expected calibration error, with the table behind it: K buckets of predictions of equal width, [i/K, (i + 1)/K), the
    last one with 1.

    The value is Σ_k W_k·|p̄_k − ȳ_k| / Σ_k W_k, 0 at best; `buckets()` is the table, from which a reliability curve is drawn.
    Takes weights. Memory: 3·K numbers, of sums. torchmetrics' BinaryCalibrationError keeps all predictions, and takes no
    weights. Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv:1706.04599, §2.
    """

    weighted = True

    def __init__(self, buckets: int = 10) -> None:
        if type(buckets) is not int or buckets < 1:
            raise ValueError(f"buckets must be a whole number, at least 1; got {buckets!r}.")
        self.num_buckets = buckets
        self.reset()

    def __repr__(self) -> str:
        return f"CalibrationByBucket({self.num_buckets})"

    def reset(self) -> None:
        """Drop all rows."""
        self._sums = np.zeros((3, self.num_buckets))  # of weights, of predictions, of labels

    def _add(self, p: np.ndarray, y: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> None:
        bucket = np.minimum((p * self.num_buckets).astype(np.int64), self.num_buckets - 1)
        columns = (weights, weights * p, weights * y)
        self._sums = self._sums + [np.bincount(bucket, column, self.num_buckets) for column in columns]

    @property
    def undefined(self) -> str | None:
        """Why the value is undefined, in words; None if it is defined."""
        return None if self._sums[0].any() else "there are no rows, or all weights are 0"

    def _value(self) -> float:
        weight, predicted, clicked = self._sums
        return float(np.abs(predicted - clicked).sum() / weight.sum())

    def buckets(self) -> list[Bucket]:
        """The K buckets, lowest first."""
        edges = np.arange(self.num_buckets + 1) / self.num_buckets
        weight, predicted, clicked = self._sums
        with np.errstate(invalid="ignore"):
            means = predicted / weight, clicked / weight
        return [Bucket(*map(float, each)) for each in zip(edges[:-1], edges[1:], weight, *means, strict=True)]

    def _packed(self) -> State:
        return {"sums": self._sums[None]}

    def _merge(self, state: State) -> None:
        self._sums = self._sums + state["sums"][0]
