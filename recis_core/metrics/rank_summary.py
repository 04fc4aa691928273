"""Ranks in a stream of numbers, from a sample that every halving keeps representative (Munro and Paterson 1980; Manku,
Rajagopalan and Lindsay 1998).

    level 0   numbers as they came; when K of them are there, they are sorted and every second one goes up
    level h   numbers of which each stands for 2^h; the same

A halving at level h moves the count of numbers below any x by 0 … 2^h, down when it keeps the second of each pair and up
when it keeps the first. Halvings take turns, so that two of them move it by 2^h at most, whatever the numbers and their
order. N numbers are halved N/(K·2^h) times at level h, hence the whole error is under N·(log2(N/K)/2 + 1)/K: of K = 32,768,
.0003 N at N = 10⁹ and .0005 N at N = 10¹³. Until K numbers came, nothing is lost.

Sizes: K numbers of a level, N numbers of the stream.
"""

from __future__ import annotations

import numpy as np

K = 1 << 15


class RankSummary:
    """What is left of a stream of numbers: (values, weights), whose ranks are off by `error` numbers at most.

    Memory is K·8 bytes a level, log2(N/K) + 1 levels: 4 MB at 10⁹ numbers.
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
        """Numbers of the stream."""
        return float(sum(len(level) * 2.0**h for h, level in enumerate(self._levels)))

    @property
    def error(self) -> float:
        """The most by which the count of numbers below any x may be off."""
        return self._merged_error + sum((m + 1) // 2 * 2.0**h for h, m in enumerate(self._halvings))

    def add(self, values: np.ndarray, level: int = 0) -> None:
        """More numbers, float64 [N]; each stands for 2^level."""
        while len(self._levels) <= level:
            self._levels.append(np.empty(0))
            self._halvings.append(0)
        values = np.concatenate([self._levels[level], values])
        whole = len(values) - len(values) % self._k
        self._levels[level] = values[whole:]
        if whole:
            self.add(self._halved(values[:whole].reshape(-1, self._k), level), level + 1)

    def _halved(self, full: np.ndarray, level: int) -> np.ndarray:
        """Every second number of each of these full buffers, [buffers, K]: by turns the first and the second of pairs."""
        first = self._halvings[level]
        self._halvings[level] += len(full)
        full = np.sort(full, axis=1)
        return np.concatenate([row[(first + i) % 2 :: 2] for i, row in enumerate(full)])

    def items(self) -> tuple[np.ndarray, np.ndarray]:
        """(values, weights), weights summing to `count`."""
        weights = [np.full(len(level), 2.0**h) for h, level in enumerate(self._levels)]
        return np.concatenate([np.empty(0), *self._levels]), np.concatenate([np.empty(0), *weights])

    def merge(self, values: np.ndarray, weights: np.ndarray, error: float) -> None:
        """Another summary's items and error, as if its numbers had come here."""
        self._merged_error += error
        for weight in np.unique(weights):
            self.add(values[weights == weight], int(np.log2(weight)))
