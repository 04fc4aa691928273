"""AUC within groups.

Sizes: E entries of GroupScores, G groups.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from recis_core.metrics.group_scores import Entries, GroupScores
from recis_core.metrics.of_groups import OfGroups

Weighting = Literal["positives", "rows", "groups"]


class GAUC(OfGroups):
    """The mean over groups of the AUC within each, exact: Σ weight·auc / Σ weight over groups that hold both classes.

    weighting: of a group, its "positives" as RecIS's Gauc has it, its "rows" (Zhu et al. 2017, arXiv:1703.02091, §5.1), or
      "groups", 1 each.

    update takes groups, the user of each row say; a group's rows may come in any batches, in any order, on any ranks. Ties
    count half. With weights a pair counts as the product of its two, and positives and rows are sums of weights. Predictions are
    any real numbers. Memory: all distinct (group, prediction), 32 bytes each, and 104 while new
    ones are merged: a later row may change each pair of its group, so that nothing less is exact. 10⁸ rows take 10 GB at that
    moment; of more, give a sample of whole groups. NaN where no group holds both classes. torchmetrics has none.
    """

    def __init__(self, weighting: Weighting = "positives") -> None:
        if weighting not in get_args(Weighting):
            raise ValueError(f"weighting must be one of {', '.join(get_args(Weighting))}; got {weighting!r}.")
        self.weighting = weighting
        super().__init__()

    def __repr__(self) -> str:
        return f"GAUC({self.weighting!r})"

    def reset(self) -> None:
        """Drop all rows."""
        self._best = GroupScores(rows=np.float64)

    def _take(self, p: np.ndarray, y: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> None:
        self._best.add(groups, p, y * weights, weights)

    @property
    def undefined(self) -> str | None:
        """Why the value is undefined, in words; None if it is defined."""
        rows, positives = _totals(self._best.entries())
        if ((positives > 0) & (positives < rows)).any():
            return None
        return f"it needs a group with labels of both classes; there are {len(rows):,} groups, none of them such"

    def _value(self) -> float:
        entries = self._best.entries()
        rows, positives = _totals(entries)
        both = (positives > 0) & (positives < rows)
        area = _areas(entries)[both] / positives[both] / (rows - positives)[both]
        weight = {"positives": positives, "rows": rows, "groups": np.ones(len(rows))}[self.weighting][both]
        return float((weight * area).sum() / weight.sum())


def _totals(entries: Entries) -> tuple[np.ndarray, np.ndarray]:
    """(rows, positives) of each group, by weight, [G]."""
    if not len(entries):
        return np.empty(0), np.empty(0)
    return np.add.reduceat(entries.rows, entries.starts), np.add.reduceat(entries.gain, entries.starts)


def _areas(entries: Entries) -> np.ndarray:
    """For each group the weight of pairs of a positive above a negative, ties half: [G]."""
    negative = entries.rows - entries.gain
    before = np.cumsum(negative) - negative
    above = before - entries.of_first(before)
    all_of_group = np.repeat(_totals(entries)[0] - _totals(entries)[1], entries.group_sizes)
    below = all_of_group - above - negative
    return np.add.reduceat(entries.gain * (below + negative / 2), entries.starts)
