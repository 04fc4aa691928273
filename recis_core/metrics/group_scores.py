"""The scores of each group, which need not be contiguous in the stream.

    group    score   rows   gain          4 rows of group 7, two of them tied; their labels are 1, 0, 1, 0
      7       .9       1      1
      7       .4       2      1
      7       .1       1      0

Sizes: N rows of a batch, E entries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

WAITING = 1 << 16  # rows that wait at least, before they are sorted into the entries


@dataclass(frozen=True, eq=False)
class Entries:
    """One entry for each distinct score of each group: groups ascend, and scores descend within a group.

    group: int64 [E]. score: float64 [E]. rows: int64 [E], how many have this score; or float64, the sum of their weights.
    gain: float64 [E], the sum of their labels, or of labels by weight.
    """

    group: np.ndarray
    score: np.ndarray
    rows: np.ndarray
    gain: np.ndarray

    def __len__(self) -> int:
        return len(self.group)

    def by_name(self) -> dict[str, np.ndarray]:
        return {"group": self.group, "score": self.score, "rows": self.rows, "gain": self.gain}

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        return self.group, self.score, self.rows, self.gain

    @property
    def starts(self) -> np.ndarray:
        """The first entry of each group."""
        return _firsts(self.group[1:] != self.group[:-1], len(self))

    @property
    def place(self) -> np.ndarray:
        """int64 [E]: how many rows of the group are above the entry."""
        return self.rows_before - self.of_first(self.rows_before)

    @property
    def rows_before(self) -> np.ndarray:
        """int64 [E]: rows of all entries before."""
        return np.cumsum(self.rows) - self.rows

    @property
    def group_sizes(self) -> np.ndarray:
        """Entries of each group."""
        return np.diff(self.starts, append=len(self))

    def of_first(self, values: np.ndarray) -> np.ndarray:
        """For each entry the value of its group's first entry."""
        return np.repeat(values[self.starts], self.group_sizes)

    def where(self, kept: np.ndarray) -> Entries:
        return Entries(*(column[kept] for column in self.columns))


def _empty(rows: type) -> Entries:
    return Entries(np.empty(0, np.int64), np.empty(0), np.empty(0, rows), np.empty(0))


class GroupScores:
    """Entries of a stream of rows.

    k: keep of each group the entries of its best k rows, at most k of them; None: all. rows: of what kind Entries.rows are,
    np.int64, or np.float64 where rows have weights. Entries merge exactly, so that any
    split into batches and ranks gives the same ones. Memory: 32 bytes an entry, and three times as much
    while rows that wait are merged into them.
    """

    def __init__(self, k: int | None = None, rows: type = np.int64) -> None:
        self._k, self._kind, self._entries = k, rows, _empty(rows)
        self._waiting: list[Entries] = []

    def add(self, groups: np.ndarray, scores: np.ndarray, gains: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Rows: int64 [N], float64 [N], float64 [N]. weights: what each counts, [N]; None: 1."""
        rows = np.broadcast_to(self._kind(1), len(groups)) if weights is None else weights
        self.add_entries(Entries(groups, scores, rows, gains))

    def add_entries(self, entries: Entries) -> None:
        self._waiting.append(entries)
        if sum(map(len, self._waiting)) >= max(WAITING, len(self._entries)):
            self.entries()

    def entries(self) -> Entries:
        """All entries, or those of the best k rows of each group."""
        if self._waiting:
            merged = _merged([self._entries, *self._waiting])
            self._waiting = []
            self._entries = merged if self._k is None else merged.where(merged.place < self._k)
        return self._entries


def _merged(parts: list[Entries]) -> Entries:
    """One entry for each group and score. Column by column, so that few copies are there at once."""
    group, score = (np.concatenate([part.columns[column] for part in parts]) for column in (0, 1))
    order = _order(group, score)
    group, score = group[order], score[order]
    first = _firsts((group[1:] != group[:-1]) | (score[1:] != score[:-1]), len(group))
    if not len(first):
        return parts[0]
    group, score = group[first], score[first]
    rows = np.add.reduceat(np.concatenate([part.rows for part in parts])[order], first)
    return Entries(group, score, rows, np.add.reduceat(np.concatenate([part.gain for part in parts])[order], first))


def _order(group: np.ndarray, score: np.ndarray) -> np.ndarray:
    """By group, then by score, highest first. torch sorts integers by radix, three times as fast as numpy.lexsort."""
    bits = (0.0 - score).view(np.int64)  # of -0.0 those of 0.0
    bits ^= (bits >> 63) & (2**63 - 1)  # as integers in the order of the floats
    by_score = torch.sort(torch.from_numpy(bits), stable=True).indices
    del bits
    by_group = torch.sort(torch.from_numpy(group)[by_score], stable=True).indices
    order: np.ndarray = by_score[by_group].numpy()
    return order


def _firsts(differs: np.ndarray, n: int) -> np.ndarray:
    """Where runs begin among n values, of which `differs` compares neighbours."""
    return np.flatnonzero(np.append(True, differs)) if n else np.empty(0, np.int64)
