"""The rows of lowest score that may leave, found without looking at all rows each time.

A large tier looks at all its scores once in a while and queues the lowest. A queued row is passed over if its score has
changed since, or if it may not leave.

Sizes: R rows of the tier.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SMALL = 1 << 16  # rows up to which every call looks at all of them
SHARE = 32  # of a large tier, one part in so many is queued
ALL = slice(None)

Free = Callable[[np.ndarray | slice], np.ndarray]  # bool of rows, or of ALL: which of them are there and may leave


class Victims:
    """Of one tier."""

    def __init__(self) -> None:
        self._queue = np.zeros(0, np.int64)
        self._scores = np.zeros(0)

    def pick(self, count: int, scores: np.ndarray, free: Free) -> np.ndarray:
        """At most `count` rows, int64, of the lowest scores.

        scores: float64 [R].
        """
        if len(scores) <= SMALL:
            return lowest(count, scores, free(ALL))
        taken = self._serve(count, scores, free)
        if len(taken) < count:
            left = max(count - len(taken), len(scores) // SHARE)
            among = free(ALL).copy()
            among[taken] = False
            rows = lowest(left, scores, among)
            self._queue = rows[np.lexsort((rows, scores[rows]))]
            self._scores = scores[self._queue]
            taken = np.concatenate([taken, self._serve(count - len(taken), scores, free)])
        return taken

    def _serve(self, count: int, scores: np.ndarray, free: Free) -> np.ndarray:
        taken: list[np.ndarray] = []
        while count and len(self._queue):
            rows, old = self._queue[:count], self._scores[:count]
            self._queue, self._scores = self._queue[count:], self._scores[count:]
            good = rows[(scores[rows] == old) & free(rows)]
            taken.append(good)
            count -= len(good)
        return np.concatenate(taken) if taken else np.zeros(0, np.int64)


def lowest(count: int, scores: np.ndarray, among: np.ndarray) -> np.ndarray:
    """At most `count` rows, int64, of the lowest scores. among: bool [R]"""
    rows = np.flatnonzero(among)
    return rows[np.argpartition(scores[rows], count)[:count]] if count < len(rows) else rows
