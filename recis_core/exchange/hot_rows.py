"""The most used rows of a table, copied to every rank.

A forward reads the copies, and sends neither ids nor rows. Gradients go to the owner like all others; before the next
forward every rank copies the updated rows. Every PERIOD steps ranks choose hot rows anew, by what all have counted since
the last time.

Sizes: U unique keys, K hot rows, D dim, W ranks, T logical tables.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recis_core.backends import LookupMode
from recis_core.exchange import wire
from recis_core.exchange.keyed_rows import KeyedRows
from recis_core.exchange.keys import runs_of_equal

if TYPE_CHECKING:
    from recis_core.exchange.exchange import Exchange
    from recis_core.exchange.sharded_table import ShardedTable

FIRST, PERIOD = 10, 200  # steps before the first choice, and between choices
CANDIDATES = 4  # from each rank, times as many as are chosen
COUNTED = 1 << 20  # keys whose uses are counted at most; others wait for the next period


class HotRows:
    """Of one storage. keys: (ids int64, ordinals int32 [K]) ascending by (owner, table, id), the same on all ranks."""

    def __init__(self, table: ShardedTable, count: int) -> None:
        self.table, self.count = table, count
        self.chosen_at, self.stale = 0, False
        self.written = False  # whether rows were written or erased here, which other ranks do not know yet
        self._set(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int32))
        self._restart()

    def _restart(self) -> None:
        self.uses = KeyedRows(self.table.backend, self.table.spec, 1, COUNTED)

    def _set(self, ids: Tensor, ordinals: Tensor) -> None:
        table = self.table
        order = torch.argsort(ids)
        order = order[torch.argsort(self._group(ids[order], ordinals[order]), stable=True)]
        self.ids, self.ordinals = ids[order].to(table.device), ordinals[order].to(table.device)
        owners = self._group(ids[order], ordinals[order]) // len(table.names)
        self.owned = torch.bincount(owners, minlength=table.world).tolist()  # how many each rank owns
        self.values = torch.zeros(len(ids), table.spec.dim, device=table.device)
        self.places = KeyedRows(table.backend, table.spec, 1, max(1, len(ids)))
        self.places.write(self.ids, self.ordinals, torch.arange(len(ids), device=table.device).float()[:, None])

    def _group(self, ids: Tensor, ordinals: Tensor) -> Tensor:
        owners = self.table.owners.of_ids(ids, ordinals)
        return owners * len(self.table.names) + ordinals

    def find(self, ids: Tensor, ordinals: Tensor) -> Tensor:
        """int64 [U]: each key's place among hot rows, -1 for others."""
        if not len(self.ids):
            return torch.full_like(ids, -1)
        rows = self.places.find(ids, ordinals)
        return torch.where(rows >= 0, self.places.read(rows)[:, 0].long(), -1)

    def use(self, ids: Tensor, ordinals: Tensor, counts: Tensor) -> None:
        """Count a forward's occurrences of unique keys."""
        rows = self.uses.find(ids, ordinals)
        fits = torch.ones_like(rows, dtype=torch.bool)
        fits[(rows < 0).nonzero().flatten()[self.uses.room :]] = False
        uses = self.uses.read(rows)[:, 0] + counts
        self.uses.write(ids[fits], ordinals[fits], uses[fits, None])

    @property
    def due(self) -> bool:
        """Whether the next forward chooses rows anew; equal on all ranks."""
        step = self.table.step
        return step - self.chosen_at >= (PERIOD if self.chosen_at else FIRST)

    def candidates(self) -> Tensor:
        """This rank's most used keys: int64 [n, 3] of id, ordinal, uses, on the CPU."""
        kept = self.uses.snapshot()
        uses = kept.slots["values"][:, 0].long()
        top = [
            _most_used(kept.ids[mine], uses[mine], CANDIDATES * self.count, ordinal)
            for ordinal in range(len(self.table.names))
            for mine in [kept.tables == ordinal]
        ]
        return torch.cat(top)

    def choose(self, ranks: Sequence[Tensor]) -> None:
        """From all ranks' candidates: the most used in all, ties by id."""
        ids, ordinals, uses = torch.cat(list(ranks)).unbind(1)
        order = torch.argsort(ids)
        order = order[torch.argsort(ordinals[order], stable=True)]
        ids, ordinals, uses = ids[order], ordinals[order], uses[order]
        bounds = runs_of_equal(ids, ordinals)
        total = torch.cat([torch.zeros(1, dtype=torch.int64), uses.cumsum(0)])
        ids, ordinals, uses = ids[bounds[:-1]], ordinals[bounds[:-1]], total[bounds[1:]] - total[bounds[:-1]]
        chosen = torch.cat(
            [
                _most_used(ids[mine], uses[mine], self.count, ordinal)
                for ordinal in range(len(self.table.names))
                for mine in [ordinals == ordinal]
            ]
        )
        self._set(chosen[:, 0].clone(), chosen[:, 1].int())
        self._restart()
        self.chosen_at, self.stale = self.table.step, True

    def spans(self) -> list[tuple[int, int]]:
        """Where each rank's hot rows begin and end."""
        ends = torch.tensor([0, *self.owned]).cumsum(0).tolist()
        return list(itertools.pairwise(ends))

    def owned_keys(self) -> tuple[Tensor, Tensor]:
        """Keys of hot rows that this rank owns."""
        beg, end = self.spans()[self.table.exchange.channel.rank]
        return self.ids[beg:end], self.ordinals[beg:end]

    def owned_rows(self) -> Tensor:
        """float32 [k, D]: their rows."""
        table, (ids, ordinals) = self.table, self.owned_keys()
        mode = LookupMode(insert=True, touch=False)
        rows, _ = table.storage.lookup(ids, ordinals, mode=mode, clock=table.clock)
        return table.storage.gather(rows, ids, ordinals)


def _most_used(ids: Tensor, uses: Tensor, count: int, ordinal: int) -> Tensor:
    """int64 [n, 3]; ids ascend, so a stable sort breaks ties by id."""
    order = torch.argsort(uses, descending=True, stable=True)[:count]
    return torch.stack([ids[order], torch.full_like(ids[order], ordinal), uses[order]], 1)


def refresh(exchange: Exchange, trains: bool) -> None:
    """Before a forward: choose hot rows where due, and copy those that are stale. Collective where either is needed."""
    due = [hot for hot in exchange.hot if trains and hot.due]
    if due:
        _choose(exchange, due)
    copy_stale(exchange)


def copy_stale(exchange: Exchange) -> None:
    """Collective where a table's copies are stale, which all ranks know alike."""
    stale = [hot for hot in exchange.hot if hot.stale]
    if stale:
        _copy(exchange, stale)


def after_writes(found: Sequence[HotRows], written: Tensor) -> None:
    """If any rank has written rows apart from steps, all ranks copy hot rows anew. written: [W], each rank's 0 or 1."""
    if bool(written.any()):
        for hot in found:
            hot.written, hot.stale = False, bool(len(hot.ids))


def _choose(exchange: Exchange, due: list[HotRows]) -> None:
    W = exchange.channel.size
    with exchange.channel.failing_together("hot rows"):
        mine = [hot.candidates() for hot in due]
        counts = torch.tensor([len(c) for c in mine]).expand(W, -1)
        message = torch.cat([wire.as_bytes(c) for c in mine])
    theirs, arrived = exchange.channel.swap(
        "hot rows", [message] * W, lambda theirs: (theirs.sum(1) * 24).tolist(), "hot rows",
        about=([h.table.names for h in due], exchange.position()), counts=counts, here=exchange.where,
    )  # fmt: skip
    cut = [m.cpu().split((24 * c).tolist()) for m, c in zip(arrived, theirs, strict=True)]
    for i, hot in enumerate(due):
        hot.choose([parts[i].clone().view(torch.int64).reshape(-1, 3) for parts in cut])


def _copy(exchange: Exchange, stale: list[HotRows]) -> None:
    W = exchange.channel.size
    with exchange.channel.failing_together("refresh"):
        message = torch.cat([wire.as_bytes(hot.owned_rows()) for hot in stale])
        lengths = [
            [4 * hot.table.spec.dim * (end - beg) for hot in stale for beg, end in [hot.spans()[p]]] for p in range(W)
        ]
    _, arrived = exchange.channel.swap(
        "refresh", [message] * W, lambda _: [sum(n) for n in lengths], "hot rows",
        about=([h.table.names for h in stale], exchange.position()), here=exchange.where,
    )  # fmt: skip
    for p, (whole, n) in enumerate(zip(arrived, lengths, strict=True)):
        for hot, part in zip(stale, whole.split(n), strict=True):
            beg, end = hot.spans()[p]
            values = part.clone().to(hot.table.device).view(torch.float32)
            hot.values[beg:end] = values.reshape(end - beg, -1)
    for hot in stale:
        hot.stale = False
