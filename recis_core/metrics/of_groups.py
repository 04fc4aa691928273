"""What metrics of groups share: their rows as GroupScores.

Sizes: N rows.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from recis_core.metrics.group_scores import Entries, GroupScores
from recis_core.metrics.streamed import State, Streamed


class OfGroups(Streamed):
    """A metric of groups. k: what `_best` keeps of each group. Rows of weight 0 are left out."""

    grouped, weighted = True, True
    _probabilities = False

    def __init__(self, k: int | None = None) -> None:
        if k is not None and (type(k) is not int or k < 1):
            raise ValueError(f"k must be a whole number, at least 1, or None; got {k!r}.")
        self.k = k
        self.reset()

    def reset(self) -> None:
        """Drop all rows."""
        self._best = GroupScores(self.k)

    def _add(self, p: np.ndarray, y: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> None:
        some = weights > 0
        columns = (p, y, groups, weights)
        self._take(*(columns if bool(some.all()) else (column[some] for column in columns)))

    @abstractmethod
    def _take(self, p: np.ndarray, y: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> None:
        """Rows whose weights are above 0."""

    @property
    @abstractmethod
    def undefined(self) -> str | None: ...

    def _parts(self) -> dict[str, GroupScores]:
        return {"best": self._best}

    def _packed(self) -> State:
        return {
            f"{name}.{field}": column
            for name, part in self._parts().items()
            for field, column in part.entries().by_name().items()
        }

    def _merge(self, state: State) -> None:
        for name, part in self._parts().items():
            part.add_entries(Entries(*(state[f"{name}.{field}"] for field in part.entries().by_name())))
