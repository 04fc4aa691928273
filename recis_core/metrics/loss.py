"""Log loss of a stream of predictions, and its ratio to that of a constant."""

from __future__ import annotations

import numpy as np

from recis_core.metrics.exact import log_losses
from recis_core.metrics.sums import OfSums


class LogLoss(OfSums):
    """Mean −log likelihood of labels under predictions, weighted by rows' weights.

    Σ w·(−y·log p − (1 − y)·log(1 − p)) / Σ w, natural logarithms, p clipped to [floor, 1 − floor]. Takes weights. Memory: two
    numbers. torchmetrics has no log loss.
    """

    _count = 1

    def __init__(self, floor: float = 1e-7) -> None:
        if not 0 < floor < 0.5:
            raise ValueError(f"floor must be above 0 and below 0.5; got {floor!r}.")
        self.floor = floor
        self.reset()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(floor={self.floor})"

    def _terms(self, p: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
        return (log_losses(p, y, self.floor),)

    def _value(self) -> float:
        return float(self._sums[1] / self._sums[0])


class NormalizedEntropy(LogLoss):
    """Log loss over that of a model which predicts the share of clicks for all rows: below 1 is better than that.

    NE = mean log loss / −(c·log c + (1 − c)·log(1 − c)), c = Σ w·y / Σ w: it compares models of data whose click rates differ.
    Takes weights. NaN where labels are all alike. He et al. 2014, Practical Lessons from Predicting Clicks on Ads at
    Facebook, §3. torchmetrics has none.
    """

    _count = 2

    def _terms(self, p: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
        return (*super()._terms(p, y), y)

    @property
    def undefined(self) -> str | None:
        """Why the value is undefined, in words; None if it is defined."""
        weight, _, clicks = self._sums
        return None if 0 < clicks < weight else "it needs labels of both classes with weights above 0"

    def _value(self) -> float:
        weight, loss, clicks = self._sums
        c = clicks / weight
        return float(loss / weight / -(c * np.log(c) + (1 - c) * np.log1p(-c)))
