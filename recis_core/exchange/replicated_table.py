"""A table that every rank holds whole: nothing travels forward, gradients go to all.

A rank may lack a row that no gradient has touched; the row begins with the same value on every rank. Where rows are
evicted, the arrival of its gradient counts as a row's use: all ranks see it in the same step, and no other rank sees a lookup.

Sizes: U unique keys, D dim.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from recis_core.backends import Snapshot
from recis_core.backends.errors import RecisError
from recis_core.exchange.sharded_table import ShardedTable


class ReplicatedTable(ShardedTable):
    """All rows on all ranks."""

    replicated = True

    @property
    def touched_by_gradients(self) -> bool:  # type: ignore[override]
        return self.eviction is not None

    def evict(self, ordinals: Iterable[int] | None = None) -> dict[int, int]:
        """See Table.evict; on all ranks at the same step, so that they stay alike.

        Raises:
          RecisError: gradients may be on their way, which not all ranks know of.
        """
        if self.has_gradient:
            raise RecisError("evict rows of replicated tables after step() or zero_grad(), or before a forward.")
        self.changes += 1
        return super().evict(ordinals)

    def insert(self, snapshot: Snapshot) -> None:
        super().insert(snapshot)
        self.changes += 1

    def erase(self, ids: Tensor, ordinal: int) -> None:
        super().erase(ids, ordinal)
        self.changes += 1
