"""Sets of row numbers as runs [begin, end)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

Run = tuple[int, int]


@dataclass(frozen=True)
class Intervals:
    """Runs in rising order; none touches the next, none is empty."""

    runs: tuple[Run, ...] = ()

    @classmethod
    def of(cls, runs: Iterable[Sequence[int]]) -> Intervals:
        """The numbers in any of these runs, which may overlap and come in any order."""
        merged: list[Run] = []
        for begin, end in sorted((int(begin), int(end)) for begin, end in runs if begin < end):
            if merged and begin <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(end, merged[-1][1])
            else:
                merged.append((begin, end))
        return cls(tuple(merged))

    @property
    def count(self) -> int:
        return sum(end - begin for begin, end in self.runs)

    def union(self, *others: Intervals) -> Intervals:
        return Intervals.of(chain(self.runs, *(other.runs for other in others)))

    def rest_of(self, count: int) -> Intervals:
        """The numbers 0 .. count that are not here."""
        left, at = [], 0
        for begin, end in self.runs:
            left.append((at, min(begin, count)))
            at = end
        return Intervals.of([*left, (at, count)])

    def part(self, begin: int, end: int) -> Intervals:
        """The numbers from the begin-th to before the end-th, counted among these."""
        return self.parts([(begin, end)])

    def parts(self, wanted: Iterable[Run]) -> Intervals:
        """The same for several such runs, in rising order."""
        found: list[Run] = []
        runs, at = deque(self.runs), 0
        for begin, end in wanted:
            while runs and begin < end:
                first, last = runs[0]
                low, high = first + max(begin - at, 0), min(first + end - at, last)
                if low < high:
                    _append(found, low, high)
                if at + last - first > end:
                    break
                at += last - first
                runs.popleft()
        return Intervals(tuple(found))

    def listed(self) -> list[list[int]]:
        return [[begin, end] for begin, end in self.runs]


def _append(runs: list[Run], begin: int, end: int) -> None:
    if runs and runs[-1][1] == begin:
        begin = runs.pop()[0]
    runs.append((begin, end))
