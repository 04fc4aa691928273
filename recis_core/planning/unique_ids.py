"""How many different ids of a table a rank needs, in a forward and in an optimizer step.

Sizes: N ids drawn, R rows, G groups of ids with equal chances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recis_core.planning import popularity
from recis_core.planning.model_file import Feature, Measured, TableSize

DEFAULT_SKEW = 1.05
STEEPEST = 10.0
CHANCE = 1.02  # a count up to so many times what equal chances give is still chance


@dataclass(frozen=True)
class Demand:
    """The ids of one table that one rank needs.

    Args:
      edges: first rank of each group, and R + 1, float64 [G + 1].
      forward, step: chance that a rank needs a given id of the group in a forward, in a step; float64 [G].
      ids: occurrences in a forward.
    """

    edges: np.ndarray
    forward: np.ndarray
    step: np.ndarray
    ids: float

    @property
    def widths(self) -> np.ndarray:
        return np.diff(self.edges)

    def cold(self, hot_rows: int) -> np.ndarray:
        """Ids of each group that are not among the `hot_rows` most used, float64 [G]."""
        return np.diff(np.maximum(self.edges, hot_rows + 1.0))

    @property
    def unique(self) -> float:
        """Different ids of a forward, expected."""
        return float((self.widths * self.forward).sum())


def demand(table: TableSize, batch_size: int, accumulate: int = 1) -> Demand:
    """The demand of a table whose features all rank its ids alike.

    An id of chance p_f in feature f is needed with chance 1 − Π (1 − p_f)^(B · pooling_f).
    """
    edges = popularity.groups(table.rows)
    missed = np.zeros(len(edges) - 1)
    for feature in table.features:
        with np.errstate(divide="ignore"):
            missed += batch_size * feature.pooling_factor * np.log1p(-_shares(edges, feature, table.name))
    ids = batch_size * sum(feature.pooling_factor for feature in table.features)
    return Demand(edges, -np.expm1(missed), -np.expm1(accumulate * missed), ids)


def expected_unique(edges: np.ndarray, share: np.ndarray, ids: float) -> float:
    """Σ 1 − (1 − p)^N over all ids: different ones among N drawn."""
    with np.errstate(divide="ignore"):
        return float((np.diff(edges) * -np.expm1(ids * np.log1p(-share))).sum())


def fit_skew(rows: int, measured: Measured, shift: float = 0.0, hot: float = 0.0) -> float:
    """The exponent at which `measured.ids` draws are expected to give `measured.unique` different ids.

    Raises:
      ValueError: even equal chances give fewer, or the steepest law more.
    """
    edges = popularity.groups(rows)

    def unique(skew: float) -> float:
        return expected_unique(edges, popularity.shares(edges, skew, shift, hot), measured.ids)

    low, high = 0.0, STEEPEST
    most, least = unique(low), unique(high)
    if not least - 1 <= measured.unique <= most * CHANCE + 1:
        raise ValueError(
            f"measured: {measured.ids:,} ids over {rows:,} rows have between {least:,.0f} and {most:,.0f} different "
            f"ones, whatever the skew; got {measured.unique:,}. Are rows and hot right?"
        )
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if unique(middle) > measured.unique else (low, middle)
    return (low + high) / 2


def _shares(edges: np.ndarray, feature: Feature, table: str) -> np.ndarray:
    skew = DEFAULT_SKEW if feature.skew is None else feature.skew
    if feature.measured is not None:
        try:
            skew = fit_skew(int(edges[-1]) - 1, feature.measured, feature.shift, feature.hot)
        except ValueError as error:
            raise ValueError(f"table {table}: {error}") from None
    return popularity.shares(edges, skew, feature.shift, feature.hot)
