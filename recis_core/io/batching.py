"""The rows of a worker, and their cut into batches: of so many rows, or of so many ids.

Sizes: B rows of a batch, n rows of a part.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from recis_core.io.batch_rows import Batch, ids_by_row, put_together, rows_of
from recis_core.io.file_reader import Read
from recis_core.io.intervals import Intervals
from recis_core.io.position import Cut


def worker_rows(rows: int, worker_idx: int, worker_num: int) -> tuple[int, int]:
    """[begin, end) of a worker's rows. Workers' runs hold every row once; their sizes differ by one at most."""
    return rows * worker_idx // worker_num, rows * (worker_idx + 1) // worker_num


def neighbours(rows: Intervals, worker: int, workers: int) -> Intervals:
    """A worker's rows: `worker_rows` of those that there are."""
    return rows.part(*worker_rows(rows.count, worker, workers))


def batch_sizes(own: int, least: int, most: int, batch_size: int, drop_remainder: bool) -> list[int]:
    """The sizes of a worker's batches; every worker has the same number, for a collective step needs all workers.

    own: its rows. least, most: the rows of the workers that have fewest and most.

    10 rows, 2 workers of 5, batch_size 2: [2, 2, 1] each; dropping the remainder: [2, 2] each.
    9 rows, 2 workers of 4 and 5:          [2, 1, 1] and [2, 2, 1].
    A worker with fewer rows than the others' number of batches has fewer batches.
    """
    if drop_remainder:
        return [batch_size] * (least // batch_size)
    sizes, left = [], own
    for later in reversed(range(min(-(-most // batch_size), own))):
        sizes.append(min(batch_size, left - later))
        left -= sizes[-1]
    return sizes


def share_sizes(rows: int, cuts: Sequence[Cut]) -> tuple[int, int, int]:
    """(own, least, most) rows of a share of `rows` rows, before its `rows` done; others have done as many before a cut."""
    own = least = most = rows
    for k, cut in enumerate(cuts):
        done = cut.rows if k < len(cuts) - 1 else 0
        begin, end = worker_rows(own, cut.worker, cut.workers)
        own, least, most = end - begin - done, least // cut.workers - done, -(-most // cut.workers) - done
    return own, max(least, 0), most


def remaining(sizes: list[int], rows_done: int) -> list[int]:
    """The sizes left after rows_done rows; the first is shorter if rows_done ends inside a batch."""
    left = []
    for size in sizes:
        done = min(size, rows_done)
        rows_done -= done
        if done < size:
            left.append(size - done)
    return left


class Waiting:
    """Rows that were read and are in no batch yet. Counts rows of the order, also those that a filter left out."""

    def __init__(self) -> None:
        self._reads: deque[tuple[int, Read]] = deque()  # with the rows of the order before each
        self._begin = 0  # rows of the first read that are in batches
        self._read = self._closed = 0  # rows of the order that were read; up to the last row in a batch
        self.rows = 0

    def add(self, read: Read) -> None:
        if read.rows:
            self._reads.append((self._read, read))
        self._read += read.source
        self.rows += read.rows

    def take(self, rows: int) -> tuple[Batch, int]:
        """(the next rows, how many rows of the order are behind them since the last call)."""
        parts, closed = [], self._closed
        self.rows -= rows
        while rows:
            at, read = self._reads[0]
            begin, end = self._begin, min(self._begin + rows, read.rows)
            parts.append(rows_of(read.batch, begin, end))
            closed = at + (end if read.kept is None else int(read.kept[end - 1]) + 1)
            rows, self._begin = rows - (end - begin), end
            if end == read.rows:
                self._reads.popleft()
                self._begin = 0
        before, self._closed = self._closed, closed
        return put_together(parts), closed - before


class Sizes(Protocol):
    def added(self, read: Read) -> None:
        """These rows wait, too."""
        ...

    def next(self, rows: int, ended: bool) -> int | None:
        """The size of the next batch out of `rows` that wait; None if more must be read, or at the end, if there is none."""
        ...


@dataclass
class Given:
    """Batches of these sizes."""

    sizes: deque[int]

    def added(self, read: Read) -> None:
        pass

    def next(self, rows: int, ended: bool) -> int | None:
        return self.sizes.popleft() if self.sizes and rows >= self.sizes[0] else None


@dataclass
class Full:
    """Batches of `size` rows; a last one of what is left, unless it is dropped."""

    size: int
    drop_remainder: bool

    def added(self, read: Read) -> None:
        pass

    def next(self, rows: int, ended: bool) -> int | None:
        if rows >= self.size:
            return self.size
        return rows if ended and rows and not self.drop_remainder else None


@dataclass
class ByCost:
    """Batches of as many rows as hold `budget` ids of some columns, and of `most_rows` at most.

    alone: a row with more ids is a batch of its own; else it is an error.
    """

    columns: Sequence[str]
    budget: int
    most_rows: int | None
    alone: bool
    drop_remainder: bool
    _ends: np.ndarray = field(
        default_factory=lambda: np.zeros(1, np.int64)
    )  # running number of ids, from the last batch on

    def added(self, read: Read) -> None:
        if read.rows:
            self._ends = np.concatenate([self._ends, self._ends[-1] + ids_by_row(read.batch, self.columns).cumsum()])

    def next(self, rows: int, ended: bool) -> int | None:
        fit = int(np.searchsorted(self._ends, self._ends[0] + self.budget, side="right")) - 1
        size = min(fit, self.most_rows or fit)
        if not rows or (size == rows and size != self.most_rows and (not ended or self.drop_remainder)):
            return None
        if not size:
            self._check(int(self._ends[1] - self._ends[0]))
            size = 1
        self._ends = self._ends[size:]
        return size

    def _check(self, cost: int) -> None:
        if not self.alone:
            raise ValueError(
                f"a row must hold at most {self.budget} ids of {', '.join(map(repr, self.columns))}, as batch_by_cost says; one "
                f"holds {cost}. Give a larger budget, shorten rows, or say oversize='alone'."
            )


def cut(reads: Iterator[Read], sizes: Sizes) -> Iterator[tuple[Batch, int]]:
    """Batches, each with the rows of the order behind it. A batch inside one read is a view of it."""
    waiting, ended = Waiting(), False
    while True:
        size = sizes.next(waiting.rows, ended)
        if size is not None:
            yield waiting.take(size)
        elif ended:
            return
        elif (read := next(reads, None)) is None:
            ended = True
        else:
            waiting.add(read)
            sizes.added(read)
