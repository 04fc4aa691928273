"""What a logical table is asked for, of all ranks' rows. Collective: every rank asks the same, each of ids of its own.

    ids     int64, to those who may have them
    answer  uint8 a key, whether it is there; and its row, where that is asked for

Sizes: N ids, U unique ids, W ranks, D dim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch
from torch import Tensor


if TYPE_CHECKING:
    from recis_core.exchange.sharded_table import ShardedTable

Answers = list[tuple[Tensor, Tensor]]  # by rank: bool [U], which it has; float32 [U, D of that rank]


class SharedVerbs:
    """Of one logical table, wherever its rows are; `items` are those of this rank, of `own`."""

    def __init__(self, table: ShardedTable, ordinal: int) -> None:
        self.table, self.own = table, table.named(ordinal)
        self.name, self.items = self.own.name, self.own.items

    def count(self) -> int:
        """Of tables that every rank has whole, one that a single rank has counts."""
        self.table.exchange.finish()
        with self._telling("len"):
            mine = self.own.count()
        if self.table.replicated:
            return len(torch.cat(self._said_to_all("len", self._ids_here)).unique())
        counts = self._meet("len", torch.tensor([mine]))
        return int(counts.sum() if not self.table.owners.everywhere else counts.max())

    def lookup(self, ids: Tensor, unknown: str) -> tuple[Tensor, Tensor]:
        self.table.exchange.finish()
        with self._telling("lookup"):
            keys, inverse = ids.cpu().unique(return_inverse=True)
            routes = self._routes(keys)
        asked = self._sent("lookup", [keys[route] for route in routes], unknown)
        answers = self._answered(asked, routes, unknown)
        rows, found = self._joined(keys, routes, answers)
        return rows.to(ids.device)[inverse.to(ids.device)], found[inverse].to(ids.device)

    def erase(self, ids: Tensor) -> int:
        """Every rank forgets what any of them names, and what it holds for it."""
        self.table.exchange.finish()
        ids = torch.cat(self._said_to_all("erase", ids.cpu().unique)).unique()
        with self._telling("erase"):
            here = self.own.found(ids.to(self.table.device)).cpu().byte()
        masks = self._swapped("erase", [here] * self._world, [len(ids)] * self._world)
        self.table.erase(ids.to(self.table.device), self.own.ordinal)
        return int(torch.stack(masks).amax(0).sum()) if len(ids) else 0

    # What ranks say

    @property
    def _world(self) -> int:
        return self.table.exchange.channel.size

    def _telling(self, kind: str) -> AbstractContextManager[None]:
        return self.table.exchange.channel.failing_together(kind)

    def _here(self) -> str:
        return f"Here: table {self.name!r}."

    def _meet(self, kind: str, counts: Tensor) -> Tensor:
        """int64 [W]: what each rank counts."""
        counts = counts.expand(self._world, 1)
        return self.table.exchange.channel.meet(kind, self.name, counts, here=self._here)[:, 0]

    def _sent(self, kind: str, messages: Sequence[Tensor], *asked: object) -> list[Tensor]:
        """ids that each rank sent here, int64, for those that are sent to each."""
        exchange = self.table.exchange
        _, arrived = exchange.channel.swap(
            kind, [_bytes(m) for m in messages], lambda theirs: (8 * theirs[:, 0]).tolist(), kind,
            about=(self.name, *asked), counts=torch.tensor([[len(m)] for m in messages]), here=self._here,
        )  # fmt: skip
        return [_as(torch.int64, message.cpu()) for message in arrived]

    def _said_to_all(self, kind: str, ids: Callable[[], Tensor]) -> list[Tensor]:
        with self._telling(kind):
            mine = ids()
        return self._sent(kind, [mine] * self._world)

    def _swapped(self, kind: str, messages: Sequence[Tensor], lengths: Sequence[int]) -> list[Tensor]:
        """Answers, of lengths that both sides know."""
        exchange = self.table.exchange
        _, arrived = exchange.channel.swap(
            kind, messages, lambda _: lengths, kind,
            about=(self.name, "answers"), here=self._here,
        )  # fmt: skip
        return [message.cpu() for message in arrived]

    def _ids_here(self) -> Tensor:
        return torch.cat([torch.zeros(0).long(), *(ids for ids, _ in self.own.pieces(1 << 16))])

    # Lookups

    def _routes(self, keys: Tensor) -> list[Tensor]:
        """Positions of the keys that each rank is asked for."""
        if self.table.owners.everywhere:
            return [torch.arange(len(keys))] * self._world
        owners = self.table.owners.of_ids(keys, self.own.ordinals(keys))
        return [torch.nonzero(owners == rank).squeeze(1) for rank in range(self._world)]

    def _answered(self, asked: list[Tensor], routes: list[Tensor], unknown: str) -> Answers:
        with self._telling("lookup"):
            device, sizes = self.table.device, [len(ids) for ids in asked]
            rows, found = self.own.lookup(torch.cat(asked).to(device), unknown)
            parts = zip(found.cpu().split(sizes), rows.cpu().split(sizes), strict=True)
            messages = [torch.cat([here.byte(), _bytes(values)]) for here, values in parts]
            dims = self.table.dims
        lengths = [len(route) * (1 + 4 * dim) for route, dim in zip(routes, dims, strict=True)]
        arrived = self._swapped("lookup", messages, lengths)
        return [_read(m, len(route), dim) for m, route, dim in zip(arrived, routes, dims, strict=True)]

    def _joined(self, keys: Tensor, routes: list[Tensor], answers: Answers) -> tuple[Tensor, Tensor]:
        """Rows and which were found, in the order of keys; of ranks that hold the same row, the lowest that has it."""
        found = torch.zeros(len(keys), dtype=torch.bool)
        if self.table.owners.everywhere and not self.table.replicated:
            found = torch.stack([here for here, _ in answers]).any(0)
            return torch.cat([rows for _, rows in answers], 1), found
        rows = torch.zeros(len(keys), self.table.row_dim)
        for (here, values), route in zip(answers, routes, strict=True):
            takes = ~found[route] if self.table.replicated else torch.ones_like(here)
            rows[route[takes]] = values[takes]
            found[route] |= here
        return rows, found


def _bytes(values: Tensor) -> Tensor:
    return values.contiguous().view(torch.uint8).flatten()


def _as(dtype: torch.dtype, message: Tensor) -> Tensor:
    return message.clone().view(dtype)  # apart, so that it begins where the dtype may


def _read(message: Tensor, count: int, dim: int) -> tuple[Tensor, Tensor]:
    return message[:count].bool(), _as(torch.float32, message[count:]).reshape(count, dim)
