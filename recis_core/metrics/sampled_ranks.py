"""AUC from the ranks of both classes' predictions.

The area is ∫ F dG, where F(x) and G(x) are the shares of negatives and of positives below x. If their errors are at most
f and g, that of the area is at most f + g: |∫ F dG − ∫ F′ dG′| ≤ |∫ (F − F′) dG| + |∫ (G − G′) dF′|.
"""

from __future__ import annotations

import numpy as np

from recis_core.metrics.exact import weighted_auc
from recis_core.metrics.rank_summary import RankSummary


class SampledRanks:
    """A RankSummary of each class."""

    def __init__(self) -> None:
        self._of = (RankSummary(), RankSummary())  # by label

    def add(self, predictions: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> None:
        """weights: above 0."""
        given = None if bool((weights == 1).all()) else weights
        for label in (0, 1):
            mine = labels == label
            self._of[label].add(predictions[mine], None if given is None else given[mine])

    def classes(self) -> tuple[float, float]:
        """(positives, negatives), by weight."""
        return self._of[1].count, self._of[0].count

    def area(self) -> float:
        (negative, negatives), (positive, positives) = (each.items() for each in self._of)
        none = np.zeros_like
        return weighted_auc(
            np.concatenate([positive, negative]),
            np.concatenate([positives, none(negatives)]),
            np.concatenate([none(positives), negatives]),
        )

    def error(self) -> float:
        return sum(each.error / each.count for each in self._of)

    def packed(self) -> np.ndarray:
        """[items + 2, 3]: (value, weight, label), where the first row of each label has weight 0 and its error."""
        rows = []
        for label, each in enumerate(self._of):
            values, weights = each.items()
            values, weights = np.append(each.error, values), np.append(0.0, weights)
            rows.append(np.stack([values, weights, np.full(len(values), float(label))], 1))
        return np.concatenate(rows)

    def merge(self, packed: np.ndarray) -> None:
        for label, each in enumerate(self._of):
            values, weights = packed[packed[:, 2] == label, :2].T
            each.merge(values[1:], weights[1:], float(values[0]))

    def progress(self) -> dict[str, np.ndarray]:
        """What decides later halvings: [levels, 4] of (label, level, halvings, heaviest), and errors merged, [2]."""
        levels = [np.pad(each.progress, ((0, 0), (1, 0)), constant_values=label) for label, each in enumerate(self._of)]
        return {"levels": np.concatenate(levels), "merged_error": np.array([each.merged_error for each in self._of])}

    def go_on_from(self, progress: dict[str, np.ndarray]) -> None:
        levels = progress["levels"]
        for label, (each, error) in enumerate(zip(self._of, progress["merged_error"], strict=True)):
            each.go_on_from(levels[levels[:, 0] == label, 1:], float(error))
