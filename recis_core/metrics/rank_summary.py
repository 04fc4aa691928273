"""Ranks in a stream of numbers, from a sample that is halved whenever it is full (Munro and Paterson 1980; Manku,
Rajagopalan and Lindsay 1998).

    level 0   numbers as they came; K of them are sorted, and every second one goes to level 1
    level h   each number counts as 2^h numbers of the stream; K of them are halved into level h + 1

A halving at level h changes the count of numbers below any x by 0 … 2^h: down if it keeps the second of each pair, up if
it keeps the first. Halvings alternate, so that two of them change the count by 2^h at most, for any numbers in any
order. N numbers are halved N/(K·2^h) times at level h, hence the whole error is under N·(log2(N/K)/2 + 1)/K: with
K = 32,768, .0003 N at N = 10⁹ and .0005 N at N = 10¹³. Fewer than K numbers are kept exactly.

Sizes: K numbers of a level, N numbers of the stream.
"""

from __future__ import annotations

import numpy as np

K = 1 << 15


class RankSummary:
    """A sample of a stream of numbers, (values, weights), whose ranks are wrong by at most `error` numbers.

    Memory is K·8 bytes for each of log2(N/K) + 1 levels: 4 MB at 10⁹ numbers.
    """

    def __init__(self, k: int = K) -> None:
        if k < 2 or k % 2:
            raise ValueError(f"a level must hold an even number of values; got {k}.")
        self._k = k
        self._levels: list[np.ndarray] = []
        self._halvings: list[int] = []
        self._merged_error = 0.0

    @property
    def count(self) -> float:
        """How many numbers the stream had."""
        return float(sum(len(level) * 2.0**h for h, level in enumerate(self._levels)))

    @property
    def error(self) -> float:
        """The greatest error of the count of numbers below any x."""
        return self._merged_error + sum((m + 1) // 2 * 2.0**h for h, m in enumerate(self._halvings))

    @property
    def halvings(self) -> np.ndarray:
        """int64 [levels]: how many buffers of each level were halved."""
        return np.array(self._halvings, np.int64)

    @property
    def merged_error(self) -> float:
        """Of the summaries that were merged into this one."""
        return self._merged_error

    def go_on_from(self, halvings: np.ndarray, merged_error: float) -> None:
        """Halve from now on as a summary that has these items does, after so many halvings: its bits come again."""
        while len(self._levels) < len(halvings):
            self._levels.append(np.empty(0))
        self._halvings = [*map(int, halvings), *[0] * (len(self._levels) - len(halvings))]
        self._merged_error = merged_error

    def add(self, values: np.ndarray, level: int = 0) -> None:
        """Add numbers, float64 [N]; each counts as 2^level numbers."""
        while len(self._levels) <= level:
            self._levels.append(np.empty(0))
            self._halvings.append(0)
        values = np.concatenate([self._levels[level], values])
        whole = len(values) - len(values) % self._k
        self._levels[level] = values[whole:]
        if whole:
            self.add(self._halved(values[:whole].reshape(-1, self._k), level), level + 1)

    def _halved(self, full: np.ndarray, level: int) -> np.ndarray:
        """Every second number of each full buffer, [buffers, K]: alternately the first and the second of each pair."""
        first = self._halvings[level]
        self._halvings[level] += len(full)
        full = np.sort(full, axis=1)
        return np.concatenate([row[(first + i) % 2 :: 2] for i, row in enumerate(full)])

    def items(self) -> tuple[np.ndarray, np.ndarray]:
        """(values, weights), weights summing to `count`."""
        weights = [np.full(len(level), 2.0**h) for h, level in enumerate(self._levels)]
        return np.concatenate([np.empty(0), *self._levels]), np.concatenate([np.empty(0), *weights])

    def merge(self, values: np.ndarray, weights: np.ndarray, error: float) -> None:
        """Add another summary's items and error."""
        self._merged_error += error
        for weight in np.unique(weights):
            self.add(values[weights == weight], int(np.log2(weight)))
