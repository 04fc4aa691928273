"""Metrics of rankings: the rows of each group, best prediction first.

Sizes: N rows, E entries of GroupScores, G groups.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal, get_args

import numpy as np

from recis_core.metrics.group_scores import Entries, GroupScores
from recis_core.metrics.of_groups import OfGroups
from recis_core.metrics.tied_places import discounts, first_reciprocal, none_among

WithoutPositives = Literal["skip", "zero"]


class OfRankings(OfGroups):
    """The mean over groups of what `_of_groups` says of each. With weights, by groups' weights: a group has the mean of its
    rows' weights, so that a weight of each query is given as that of its rows.

    k: only the first k rows of a group count. without_positives: a group without a positive label is left out ("skip") or
    counts as 0 ("zero", torchmetrics' default, empty_target_action="neg").

    Ties are the mean over all orders of tied rows, so that a model of one constant gains nothing by the order of the data.
    Memory: of each group the distinct predictions of its best k rows, 32 bytes each, at most k of them, and 32 bytes for
    the group, with weights 64; three times that while new rows are merged.
    """

    def __init__(self, k: int | None, without_positives: WithoutPositives = "skip") -> None:
        if without_positives not in get_args(WithoutPositives):
            raise ValueError(f"without_positives must be 'skip' or 'zero'; got {without_positives!r}.")
        self.without_positives = without_positives
        super().__init__(k)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.k}, {self.without_positives!r})"

    def reset(self) -> None:
        """Drop all rows."""
        super().reset()
        self._totals = GroupScores()  # one entry a group: all its rows have the score 0
        self._weights = GroupScores()  # likewise, of rows that came with weights: gain is their sum

    def _take(self, p: np.ndarray, y: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> None:
        alike = np.zeros(len(groups))
        self._best.add(groups, p, y)
        self._totals.add(groups, alike, y)
        if bool((weights != 1).any()):
            self._weights.add(groups, alike, weights)

    def _parts(self) -> dict[str, GroupScores]:
        return {**super()._parts(), "totals": self._totals, "weights": self._weights}

    @property
    def undefined(self) -> str | None:
        """Why the value is undefined, in words; None if it is defined."""
        if self._counted().any():
            return None
        groups = len(self._totals.entries())
        return f"it needs a group with a label above 0; there are {groups:,} groups, none of them such"

    def _counted(self) -> np.ndarray:
        """Groups that count: bool [G]."""
        gain = self._totals.entries().gain
        return gain > 0 if self.without_positives == "skip" else np.ones(len(gain), bool)

    def _value(self) -> float:
        entries, counted = self._best.entries(), self._counted()
        values = self._of_groups(entries, _places_within(entries, self.k))[counted]
        weights = self._group_weights()[counted] if len(self._weights.entries()) else None
        return float(values.mean() if weights is None else np.average(values, weights=weights))

    def _group_weights(self) -> np.ndarray:
        """The mean of each group's weights, [G]."""
        totals, given = self._totals.entries(), self._weights.entries()
        sums, at = totals.rows.astype(np.float64), np.searchsorted(totals.group, given.group)
        sums[at] = (sums[at] - given.rows) + given.gain
        return sums / totals.rows

    @abstractmethod
    def _of_groups(self, entries: Entries, within: np.ndarray) -> np.ndarray:
        """Of each group, [G]; 0 of one without a positive. within: [E], how many places of an entry are among the first k."""


class RecallAtK(OfRankings):
    """The share of a group's positives that are among its first k rows; the mean over groups. As torchmetrics'
    RetrievalRecall(top_k), streaming."""

    def __init__(self, k: int, without_positives: WithoutPositives = "skip") -> None:
        super().__init__(_required(k), without_positives)

    def _of_groups(self, entries: Entries, within: np.ndarray) -> np.ndarray:
        found = np.add.reduceat(entries.gain * within / entries.rows, entries.starts)
        return found / np.maximum(self._totals.entries().gain, 1)


class HitRateAtK(OfRankings):
    """The share of groups with a positive among their first k rows. As torchmetrics' RetrievalHitRate(top_k), streaming."""

    def __init__(self, k: int, without_positives: WithoutPositives = "skip") -> None:
        super().__init__(_required(k), without_positives)

    def _of_groups(self, entries: Entries, within: np.ndarray) -> np.ndarray:
        missed = none_among(entries.rows, entries.gain, within)
        return 1 - np.multiply.reduceat(missed, entries.starts)


class MRR(OfRankings):
    """Mean reciprocal rank: 1/place of a group's first positive, places from 1; 0 where it lies beyond k. As torchmetrics'
    RetrievalMRR(top_k), streaming. k=None ranks whole groups, and keeps all their distinct predictions."""

    def __init__(self, k: int | None = None, without_positives: WithoutPositives = "skip") -> None:
        super().__init__(k, without_positives)

    def _of_groups(self, entries: Entries, within: np.ndarray) -> np.ndarray:
        before = np.cumsum(entries.gain) - entries.gain
        first = (entries.gain > 0) & (before == entries.of_first(before))  # no positive of the group is above
        hit = entries.where(first)
        values = np.zeros(len(entries))
        values[first] = first_reciprocal(entries.place[first], hit.rows, hit.gain, self.k)
        return np.add.reduceat(values, entries.starts)


class NDCGAtK(OfRankings):
    """Normalised discounted cumulative gain of a group's first k rows; the mean over groups.

    DCG = Σ label/log2(place + 1), places from 1, over the DCG of the best order of the group's labels. Labels are gains of 0 or
    more, 0 and 1 say. As torchmetrics' RetrievalNormalizedDCG(top_k), streaming; its memory is that of two rankings, by
    predictions and by labels. k=None ranks whole groups. Järvelin and Kekäläinen 2002.
    """

    _wanted = "gains"

    def __init__(self, k: int | None = None, without_positives: WithoutPositives = "skip") -> None:
        super().__init__(k, without_positives)

    def reset(self) -> None:
        """Drop all rows."""
        super().reset()
        self._ideal = GroupScores(self.k)

    def _take(self, p: np.ndarray, y: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> None:
        super()._take(p, y, groups, weights)
        self._ideal.add(groups, y, y)

    def _parts(self) -> dict[str, GroupScores]:
        return {**super()._parts(), "ideal": self._ideal}

    def _of_groups(self, entries: Entries, within: np.ndarray) -> np.ndarray:
        ideal = self._ideal.entries()
        best = _gained(ideal, _places_within(ideal, self.k))
        return np.divide(_gained(entries, within), best, out=np.zeros(len(best)), where=best > 0)


def _gained(entries: Entries, within: np.ndarray) -> np.ndarray:
    """Discounted gain of each group, [G]."""
    mean = entries.gain / entries.rows
    return np.add.reduceat(mean * discounts(entries.place, within), entries.starts)


def _places_within(entries: Entries, k: int | None) -> np.ndarray:
    """int64 [E]: how many places of an entry are among the first k of its group."""
    return entries.rows if k is None else np.clip(k - entries.place, 0, entries.rows)


def _required(k: int | None) -> int:
    if k is None:
        raise ValueError("k must be a whole number, at least 1; got None.")
    return k
