"""AUC of a stream of predictions.

Sizes: N predictions, K numbers of a RankSummary's level.
"""

from __future__ import annotations

import numpy as np

from recis_core.metrics.exact import one_class
from recis_core.metrics.sampled_ranks import SampledRanks
from recis_core.metrics.streamed import LOG, State, Streamed
from recis_core.metrics.threshold_counts import ThresholdCounts

ROUNDING = 1e-12  # of sums in float64
COARSE = 0.01  # error of thresholds above which a warning is logged


class AUROC(Streamed):
    """Area under the ROC curve of all predictions since the last reset: the chance that a positive is predicted above a
    negative; ties count half. Of rows with weights a pair counts as the product of its two weights.

    Exact while each class has fewer than 32,768 predictions; with more, within .001 and within `bounds()`, for any
    predictions in any order: rare clicks, ties, scores that differ only in the last bit. The proof is in
    rank_summary.py and sampled_ranks.py. Memory: 512 KB for each class and doubling of its predictions, 16 MB at 10⁹
    predictions; with weights for each doubling of these, too, and bounds are up to twice as wide. The same predictions in the
    same order give the same bits.

    num_thresholds: count at this number T of fixed thresholds, −1e-7, i/(T−1), 1+1e-7, as recis.metrics.AUROC(200) and
      tf.keras.metrics.AUC do. The area is right if predictions spread over [0, 1]. If clicks are rare and most scores lie
      between two thresholds, it is wrong, and a warning is logged.
    """

    weighted = True

    def __init__(self, num_thresholds: int | None = None) -> None:
        if num_thresholds is not None and (type(num_thresholds) is not int or num_thresholds < 2):
            raise ValueError(f"num_thresholds must be a whole number, at least 2, or None; got {num_thresholds!r}.")
        self.num_thresholds = num_thresholds
        self.reset()

    def __repr__(self) -> str:
        return f"AUROC({'' if self.num_thresholds is None else self.num_thresholds})"

    def reset(self) -> None:
        """Drop all predictions."""
        self._seen = SampledRanks() if self.num_thresholds is None else ThresholdCounts(self.num_thresholds)

    def _add(self, p: np.ndarray, y: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> None:
        self._seen.add(*(column[weights > 0] for column in (p, y, weights)))

    @property
    def undefined(self) -> str | None:
        """Why the area is undefined, in words; None if it is defined."""
        return one_class(*self._seen.classes())

    def _value(self) -> float:
        error = self._seen.error()
        if self.num_thresholds is not None and error > COARSE:
            LOG.warning(
                "AUROC of %d thresholds may be off by %.3f: so many pairs lie between two of them. "
                "AUROC() without num_thresholds is right to .001.",
                self.num_thresholds, error,
            )  # fmt: skip
        return self._seen.area()

    def bounds(self) -> tuple[float, float]:
        """(lowest, highest) value of the exact area; NaN if a class is missing."""
        if self.undefined is not None:
            return float("nan"), float("nan")
        area, error = self._seen.area(), self._seen.error() + ROUNDING
        return max(0.0, area - error), min(1.0, area + error)

    def _packed(self) -> State:
        return {"seen": self._seen.packed()}

    def _merge(self, state: State) -> None:
        self._seen.merge(state["seen"])

    def _state(self) -> State:
        return {**self._packed(), **self._seen.progress()}

    def _load(self, state: State) -> None:
        super()._load(state)
        self._seen.go_on_from(state)
