"""len, lookup and erase of a logical table, over all ranks' rows. Collective: all ranks call one verb, with any ids.

    ids     int64, to ranks that may have them
    answer  uint8 a key, whether the rank has it; for lookups its row, too

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

Answers = list[tuple[Tensor, Tensor]]  # by rank: bool [U], whether it has a key; float32 [U, D of that rank]


class SharedVerbs:
    """Of one logical table; `items` are those of this rank, of `own`."""

    def __init__(self, table: ShardedTable, ordinal: int) -> None:
        self.table, self.own = table, table.named(ordinal)
        self.name, self.items = self.own.name, self.own.items

    def count(self) -> int:
        """Rows on all ranks. Of a replicated table, a row counts that any rank has."""
        self.table.exchange.finish()
        with self._failing_together("len"):
            mine = self.own.count()
        if self.table.replicated:
            return len(torch.cat(self._sent_to_all("len", self._ids_here)).unique())
        counts = self._meet("len", torch.tensor([mine]))
        return int(counts.sum() if not self.table.owners.everywhere else counts.max())

    def lookup(self, ids: Tensor, unknown: str) -> tuple[Tensor, Tensor]:
        self.table.exchange.finish()
        with self._failing_together("lookup"):
            keys, inverse = ids.cpu().unique(return_inverse=True)
            routes = self._routes(keys)
        asked = self._sent("lookup", [keys[route] for route in routes], unknown)
        answers = self._answered(asked, routes, unknown)
        rows, found = self._joined(keys, routes, answers)
        return rows.to(ids.device)[inverse.to(ids.device)], found[inverse].to(ids.device)

    def erase(self, ids: Tensor) -> int:
        """Every rank forgets the ids that any of them names, with all that it holds for them."""
        self.table.exchange.finish()
        ids = torch.cat(self._sent_to_all("erase", ids.cpu().unique)).unique()
        with self._failing_together("erase"):
            here = self.own.found(ids.to(self.table.device)).cpu().byte()
        masks = self._swapped("erase", [here] * self._world, [len(ids)] * self._world)
        self.table.erase(ids.to(self.table.device), self.own.ordinal)
        return int(torch.stack(masks).amax(0).sum()) if len(ids) else 0

    # Between ranks

    @property
    def _world(self) -> int:
        return self.table.exchange.channel.size

    def _failing_together(self, kind: str) -> AbstractContextManager[None]:
        return self.table.exchange.channel.failing_together(kind)

    def _here(self) -> str:
        return f"Here: table {self.name!r}."

    def _meet(self, kind: str, counts: Tensor) -> Tensor:
        """int64 [W]: what each rank counts."""
        counts = counts.expand(self._world, 1)
        return self.table.exchange.channel.meet(kind, self.name, counts, here=self._here)[:, 0]

    def _sent(self, kind: str, messages: Sequence[Tensor], *asked: object) -> list[Tensor]:
        """Send int64 ids to each rank; those that each rank sent here."""
        exchange = self.table.exchange
        _, arrived = exchange.channel.swap(
            kind, [_bytes(m) for m in messages], lambda theirs: (8 * theirs[:, 0]).tolist(), kind,
            about=(self.name, *asked), counts=torch.tensor([[len(m)] for m in messages]), here=self._here,
        )  # fmt: skip
        return [_as(torch.int64, message.cpu()) for message in arrived]

    def _sent_to_all(self, kind: str, ids: Callable[[], Tensor]) -> list[Tensor]:
        with self._failing_together(kind):
            mine = ids()
        return self._sent(kind, [mine] * self._world)

    def _swapped(self, kind: str, messages: Sequence[Tensor], lengths: Sequence[int]) -> list[Tensor]:
        """Answers, whose lengths both sides know."""
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
        """Positions of the keys to ask each rank for."""
        if self.table.owners.everywhere:
            return [torch.arange(len(keys))] * self._world
        owners = self.table.owners.of_ids(keys, self.own.ordinals(keys))
        return [torch.nonzero(owners == rank).squeeze(1) for rank in range(self._world)]

    def _answered(self, asked: list[Tensor], routes: list[Tensor], unknown: str) -> Answers:
        with self._failing_together("lookup"):
            device, sizes = self.table.device, [len(ids) for ids in asked]
            rows, found = self.own.lookup(torch.cat(asked).to(device), unknown)
            parts = zip(found.cpu().split(sizes), rows.cpu().split(sizes), strict=True)
            messages = [torch.cat([here.byte(), _bytes(values)]) for here, values in parts]
            dims = self.table.dims
        lengths = [len(route) * (1 + 4 * dim) for route, dim in zip(routes, dims, strict=True)]
        arrived = self._swapped("lookup", messages, lengths)
        return [_read(m, len(route), dim) for m, route, dim in zip(arrived, routes, dims, strict=True)]

    def _joined(self, keys: Tensor, routes: list[Tensor], answers: Answers) -> tuple[Tensor, Tensor]:
        """Rows, and which were found, in the order of keys. Where several ranks have a row, the lowest rank's counts."""
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
    return message.clone().view(dtype)  # a memory of its own, for alignment


def _read(message: Tensor, count: int, dim: int) -> tuple[Tensor, Tensor]:
    return message[:count].bool(), _as(torch.float32, message[count:]).reshape(count, dim)
