"""AUC of a stream, by thresholds.

Sizes: N predictions, K thresholds.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

EPSILON = 1e-6


class AUROC:
    """Area under the ROC curve from counts at fixed thresholds −1e-7, i/(K−1), 1+1e-7; memory O(K).

    tpr = (tp + 1e-6)/(tp + fn + 1e-6), fpr = fp/(fp + tn + 1e-6); a prediction counts where it is
    above the threshold; trapezoids between. As tf.keras.metrics.AUC and recis.metrics.AUROC.
    """

    def __init__(self, num_thresholds: int = 200) -> None:
        if num_thresholds < 2:
            raise ValueError(f"num_thresholds must be at least 2; got {num_thresholds}.")
        inner = [i / (num_thresholds - 1) for i in range(1, num_thresholds - 1)]
        self.thresholds = torch.tensor([-1e-7, *inner, 1 + 1e-7], dtype=torch.float64)
        self.reset()

    def reset(self) -> None:
        """Forget all that was seen."""
        cells = len(self.thresholds) + 1
        self._positive, self._negative = torch.zeros(2, cells, dtype=torch.float64)

    def update(self, predictions: Tensor, labels: Tensor) -> None:
        """predictions in [0, 1] and labels 0 or 1, both [N]."""
        predictions, labels = predictions.detach().double().cpu(), labels.detach().double().cpu()
        # Cell c holds predictions above exactly c thresholds.
        cell = torch.searchsorted(self.thresholds, predictions, right=False)
        cells = len(self.thresholds) + 1
        self._positive += torch.bincount(cell, labels, cells)
        self._negative += torch.bincount(cell, 1 - labels, cells)

    def reduce(self, total: Callable[[Tensor], Tensor]) -> None:
        """Count what all ranks have seen: `total` sums a tensor over them."""
        self._positive, self._negative = total(torch.stack([self._positive, self._negative]))

    def compute(self) -> float:
        """The area; needs both classes to mean anything."""
        tp, fp = _above(self._positive), _above(self._negative)
        tpr = (tp + EPSILON) / (self._positive.sum() + EPSILON)
        fpr = fp / (self._negative.sum() + EPSILON)
        return float(((fpr[:-1] - fpr[1:]) * (tpr[:-1] + tpr[1:]) / 2).sum())


def _above(counts: Tensor) -> Tensor:
    """For each threshold the count of predictions above it."""
    return counts.flip(0).cumsum(0).flip(0)[1:]
