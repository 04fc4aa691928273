"""Which rows have the id of an earlier row, found in bounded memory: the ids are read several times if they are many.

Sizes: n ids of all pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

AT_ONCE = 1 << 24  # ids that are compared at a time


@dataclass(frozen=True)
class Repeated:
    """positions: int64, ascending, running numbers of the rows that come too late."""

    positions: Tensor

    @staticmethod
    def none() -> Repeated:
        return Repeated(torch.zeros(0, dtype=torch.int64))

    @property
    def count(self) -> int:
        return len(self.positions)

    def others(self, begin: int, count: int) -> Tensor:
        """bool [count]: which rows from running number `begin` on are the first with their id."""
        first, last = torch.searchsorted(self.positions, torch.tensor([begin, begin + count])).tolist()
        others = torch.ones(count, dtype=torch.bool)
        others[self.positions[first:last] - begin] = False
        return others


def repeated_ids(pieces: Sequence[Callable[[], Iterator[Tensor]]], at_once: int = AT_ONCE) -> Repeated:
    """The rows of pieces of ids, in the order of the pieces, whose id came before.

    Args:
      pieces: each gives its ids, int64, whenever it is called.
      at_once: about so many ids are held and sorted at a time; 24 bytes each.
    """
    total = sum(len(ids) for piece in pieces for ids in piece())
    passes = -(-total // at_once)
    found = [_of_share(pieces, share, passes) for share in range(passes)]
    return Repeated(torch.cat(found).sort().values) if found else Repeated.none()


def _of_share(pieces: Sequence[Callable[[], Iterator[Tensor]]], share: int, shares: int) -> Tensor:
    """Positions of the repeated among the ids of one share; equal ids are in one share."""
    ids, positions = [], []
    at = 0
    for piece in pieces:
        for part in piece():
            mine = (_mixed(part) % shares == share).nonzero().flatten()
            ids.append(part[mine])
            positions.append(mine + at)
            at += len(part)
    ordered, order = torch.cat(ids).sort(stable=True)
    again = torch.zeros(len(ordered), dtype=torch.bool)
    again[1:] = ordered[1:] == ordered[:-1]
    return torch.cat(positions)[order[again]]


def _mixed(ids: Tensor) -> Tensor:
    """Ids in evenly spread order, so that shares are of one size; Fibonacci hashing, Knuth, TAOCP vol. 3, 6.4."""
    return (ids * -7046029254386353131) >> 32
