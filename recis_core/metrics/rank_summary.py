"""Ranks in a stream of numbers, from a sample that is halved whenever it is full (Munro and Paterson 1980; Manku,
Rajagopalan and Lindsay 1998).

    level h   numbers that weigh 2^h up to 2^(h+1); those of weight 1 come in at level 0
              K of them are sorted; of each two neighbours one goes to level h + 1, with the weight of both

A halving at level h changes the weight of numbers below any x by 0 … the heaviest of the level: down if it keeps the second of
each pair, up if it keeps the first. Halvings alternate, so that two of them change it by the heaviest at most, for any numbers
in any order. N numbers of weight 1 are halved N/(K·2^h) times at level h, hence the whole error is under
N·(log2(N/K)/2 + 1)/K: with K = 32,768, .0003 N at N = 10⁹ and .0005 N at N = 10¹³. Of other weights that sum to W the heaviest
of a level is up to twice its lightest, and the bound W·(L + 1)/K for L levels that are halved. Fewer than K numbers of a
level are kept exactly.

Sizes: K numbers of a level, N numbers of the stream, n of a level.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

K = 1 << 15


@dataclass
class Level:
    """values, weights: float64 [n]. halvings: how many buffers were halved. heaviest: of those, the greatest weight."""

    values: np.ndarray = field(default_factory=lambda: np.empty(0))
    weights: np.ndarray = field(default_factory=lambda: np.empty(0))
    halvings: int = 0
    heaviest: float = 0.0

    @property
    def error(self) -> float:
        return (self.halvings + 1) // 2 * self.heaviest


class RankSummary:
    """A sample of a stream of numbers, (values, weights), whose ranks are wrong by a weight of at most `error`.

    Memory is K·16 bytes for each level: log2(N/K) + 1 of them for numbers of weight 1, 8 MB at 10⁹.
    """

    def __init__(self, k: int = K) -> None:
        if k < 2 or k % 2:
            raise ValueError(f"a level must hold an even number of values; got {k}.")
        self._k = k
        self._levels: dict[int, Level] = {}
        self._merged_error = 0.0

    @property
    def count(self) -> float:
        """The weight of all numbers."""
        return float(sum(level.weights.sum() for level in self._levels.values()))

    @property
    def error(self) -> float:
        """The greatest error of the weight of numbers below any x."""
        return self._merged_error + sum(level.error for level in self._levels.values())

    @property
    def progress(self) -> np.ndarray:
        """float64 [levels, 3]: (level, halvings, heaviest)."""
        rows = [(h, level.halvings, level.heaviest) for h, level in sorted(self._levels.items())]
        return np.array(rows, np.float64).reshape(-1, 3)

    @property
    def merged_error(self) -> float:
        """Of the summaries that were merged into this one."""
        return self._merged_error

    def go_on_from(self, progress: np.ndarray, merged_error: float) -> None:
        """Halve from now on as a summary that has these items does, after so many halvings: its bits come again."""
        for h, halvings, heaviest in progress:
            level = self._levels.setdefault(int(h), Level())
            level.halvings, level.heaviest = int(halvings), float(heaviest)
        self._merged_error = merged_error

    def add(self, values: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Add numbers, float64 [N]. weights: float64 [N], all above 0; None: 1 each."""
        if weights is None:
            self._put(0, values, np.ones(len(values)))
            return
        levels = np.frexp(weights)[1] - 1
        for h in np.unique(levels):
            self._put(int(h), values[levels == h], weights[levels == h])

    def _put(self, h: int, values: np.ndarray, weights: np.ndarray) -> None:
        level = self._levels.setdefault(h, Level())
        values, weights = np.concatenate([level.values, values]), np.concatenate([level.weights, weights])
        whole = len(values) - len(values) % self._k
        level.values, level.weights = values[whole:], weights[whole:]
        if whole:
            buffers = (column[:whole].reshape(-1, self._k) for column in (values, weights))
            self._put(h + 1, *_halved(level, *buffers))

    def items(self) -> tuple[np.ndarray, np.ndarray]:
        """(values, weights), weights summing to `count`."""
        levels = [level for _, level in sorted(self._levels.items())]
        values, weights = ([getattr(level, column) for level in levels] for column in ("values", "weights"))
        return np.concatenate([np.empty(0), *values]), np.concatenate([np.empty(0), *weights])

    def merge(self, values: np.ndarray, weights: np.ndarray, error: float) -> None:
        """Add another summary's items and error."""
        self._merged_error += error
        self.add(values, weights)


def _halved(level: Level, values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One number of each two neighbours of full buffers [buffers, K]: alternately the first and the second of each pair."""
    first = level.halvings
    level.halvings += len(values)
    level.heaviest = max(level.heaviest, float(weights.max()))
    if weights.min() == weights.max():
        values = np.sort(values, axis=1)
    else:
        order = np.argsort(values, axis=1, kind="stable")
        values, weights = np.take_along_axis(values, order, 1), np.take_along_axis(weights, order, 1)
    kept = [row[(first + i) % 2 :: 2] for i, row in enumerate(values)]
    return np.concatenate(kept), (weights[:, ::2] + weights[:, 1::2]).reshape(-1)
