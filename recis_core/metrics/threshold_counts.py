"""AUC by counts at fixed thresholds, as in RecIS and TensorFlow.

Sizes: T thresholds.
"""

from __future__ import annotations

import numpy as np

EPSILON = 1e-6


class ThresholdCounts:
    """Positives and negatives above each of the thresholds −1e-7, i/(T−1), 1+1e-7; memory O(T)."""

    def __init__(self, num_thresholds: int) -> None:
        inner = np.arange(1, num_thresholds - 1) / (num_thresholds - 1)
        self._thresholds = np.concatenate([[-1e-7], inner, [1 + 1e-7]])
        # counts[label, c]: the weight of predictions above exactly c thresholds.
        self._counts = np.zeros((2, num_thresholds + 1))

    def add(self, predictions: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> None:
        cell = np.searchsorted(self._thresholds, predictions, side="left")
        for label in (0, 1):
            mine = labels == label
            self._counts[label] += np.bincount(cell[mine], weights[mine], self._counts.shape[1])

    def classes(self) -> tuple[float, float]:
        """(positives, negatives), by weight."""
        return float(self._counts[1].sum()), float(self._counts[0].sum())

    def area(self) -> float:
        """tpr = (tp + 1e-6)/(tp + fn + 1e-6), fpr = fp/(fp + tn + 1e-6), trapezoids between thresholds."""
        fp, tp = np.cumsum(self._counts[:, ::-1], axis=1)[:, ::-1][:, 1:]
        positives, negatives = self.classes()
        tpr, fpr = (tp + EPSILON) / (positives + EPSILON), fp / (negatives + EPSILON)
        return float(((fpr[:-1] - fpr[1:]) * (tpr[:-1] + tpr[1:]) / 2).sum())

    def error(self) -> float:
        """Half the share of pairs that no threshold separates, plus the error of the epsilons."""
        positives, negatives = self.classes()
        together = (self._counts[1] / positives * (self._counts[0] / negatives)).sum()
        return float(together / 2 + EPSILON / positives + EPSILON / negatives)

    def packed(self) -> np.ndarray:
        return self._counts.T.copy()

    def merge(self, packed: np.ndarray) -> None:
        self._counts += packed.T

    def progress(self) -> dict[str, np.ndarray]:
        return {}

    def go_on_from(self, progress: dict[str, np.ndarray]) -> None:
        """Counts are all there is."""
