"""The ids of a table's rows: on this rank, kept up to date; and on all ranks.

Sizes: R rows on this rank.
"""

from __future__ import annotations

import weakref

import torch
from torch import Tensor

from recis_core.exchange.gathering import gathered
from recis_core.nn import HashTable
from recis_core.table.changed_ids import ChangedIds
from recis_core.table.named_table import NamedTable

PIECE = 1 << 16


class Candidates:
    """Ids with a row on this rank, ascending; each row of a table counts on one rank.

    Rows of a table that is sharded by column, or replicated, are on every rank, and count on rank 0.
    """

    def __init__(self, table: HashTable) -> None:
        self._table, self._changed = table.named, ChangedIds(table.physical)
        weakref.finalize(self, self._changed.close)
        exchange = table.physical.exchange
        everywhere = table.option.sharding.kind in ("column", "replicated")  # type: ignore[union-attr]
        self._others = exchange is not None and everywhere and exchange.channel.rank > 0
        self.ids = torch.zeros(0, dtype=torch.int64)
        self.list()

    def list(self) -> None:
        """Read the ids anew."""
        self._changed.take()
        self.ids = self.ids[:0] if self._others else ids_here(self._table)

    def have_gone(self) -> bool:
        """Whether a listed id has no row any more. Reads only ids that have changed since the last call."""
        changed = self._changed.take()
        if self._others or not len(self.ids):
            return False
        if changed is None:
            return True
        ids = changed.get(self._table.ordinal, self.ids[:0])
        at = torch.searchsorted(self.ids, ids).clamp(max=len(self.ids) - 1)
        listed = ids[self.ids[at] == ids]
        return not bool(self._table.found(listed.to(self._table.table.device)).all())


def ids_here(named: NamedTable) -> Tensor:
    """int64 [R], ascending, on the CPU; reads no vector."""
    pieces = [ids.cpu() for ids, _ in named.pieces(PIECE)]
    return torch.cat([torch.zeros(0, dtype=torch.int64), *pieces]).sort().values


def all_ids(table: HashTable) -> Tensor:
    """The ids of a table's rows on all ranks, ascending, on the CPU. Collective with several ranks."""
    exchange = table.physical.exchange
    if exchange is None:
        return ids_here(table.named)
    with exchange.channel.failing_together("gather"):
        mine = ids_here(table.named)
    return torch.cat(gathered(exchange.channel, mine)).unique()
