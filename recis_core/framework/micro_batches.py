"""The batches of one optimizer step: how many there are, and how many rows all ranks have in them.

    rank 0   [24 rows] [24 rows]     ─┐
    rank 1   [24 rows] [ 3 rows]      ├─ one step over 24+24+24+3 rows; all ranks run equally many forwards
    rank 2   [24 rows] [nothing]     ─┘

Sizes: W ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch import Tensor

from recis_core.exchange.stepping import emptied
from recis_core.framework.ranks import Ranks

Batch = Any


@dataclass(frozen=True)
class MicroBatches:
    """Batches of this rank, as many as on every rank. rows: of each of them here; total: of all ranks together."""

    batches: Sequence[Batch]
    rows: Sequence[int]
    total: int

    def weights(self, world: int) -> list[float]:
        """The factor of each batch's mean loss, so that the ranks' mean of their sums is the mean over all rows."""
        return [rows * world / self.total for rows in self.rows]


def rows_in(batch: Batch) -> int:
    """Rows of a batch: the length of its first value.

    Raises:
      TypeError: there is no such value, or it has no length.
    """
    if isinstance(batch, Tensor):
        return int(batch.shape[0])
    if isinstance(batch, Mapping) and batch:
        return rows_in(next(iter(batch.values())))
    if isinstance(batch, tuple | list) and batch:
        return rows_in(batch[0])
    try:
        return len(batch)
    except TypeError:
        raise TypeError(
            f"a batch must hold tensors of one length; got a {type(batch).__name__}. Give the Trainer rows=, a function "
            "from a batch to its number of rows."
        ) from None


class Reading:
    """Reads batches in groups; on all ranks equally many groups, of equally many batches. Collective.

    Args:
      batches: this rank's. count: most batches of a group. rows: from a batch to its number of rows.
      empty: makes a batch without rows, where this rank has none left; None empties a batch seen before.

    ended: whether this rank's batches have ended.
    """

    def __init__(
        self,
        batches: Iterator[Batch],
        count: int,
        ranks: Ranks,
        *,
        rows: Callable[[Batch], int] = rows_in,
        empty: Callable[[], Batch] | None = None,
    ) -> None:
        self._batches, self._count, self._ranks, self._rows_of, self._empty = batches, count, ranks, rows, empty
        self._last: Batch = None
        self.ended = False

    def next(self) -> MicroBatches | None:
        """None where all ranks are at the end. Groups in which no rank has a row are left out."""
        while True:
            with self._together():
                batches = list(islice(self._batches, self._count))
            self.ended = len(batches) < self._count
            group = self.of(batches)
            if group is None or group.total:
                return group

    def of(self, batches: Sequence[Batch]) -> MicroBatches | None:
        """A group of these batches and the other ranks'."""
        with self._together():
            rows = [self._rows_of(batch) for batch in batches]
        self._last = batches[-1] if batches else self._last
        most, total = len(batches), sum(rows)
        if self._ranks.channel is not None:
            lines = self._ranks.lines("batches", [most, total])
            most, total = int(lines[:, 0].max()), int(lines[:, 1].sum())
        if most == 0:
            return None
        with self._together():
            lacking = [self._nothing() for _ in range(most - len(batches))]
        return MicroBatches([*batches, *lacking], [*rows, *[0] * len(lacking)], total)

    def _together(self) -> Any:
        channel = self._ranks.channel
        return nullcontext() if channel is None else channel.failing_together("batches")

    def _nothing(self) -> Batch:
        if self._empty is not None:
            return self._empty()
        if self._last is None:
            raise ValueError(
                "this rank has no batch to make an empty one of, while others have some. Give the Trainer empty=, a "
                "function that makes a batch of no rows."
            )
        return emptied(self._last)
