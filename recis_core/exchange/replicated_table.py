"""A table that every rank holds whole: nothing travels forward, gradients go to all.

A row that no gradient has touched may be missing on a rank; it begins, wherever it is asked for, with the same value.

Sizes: U unique keys, D dim.
"""

from __future__ import annotations

from torch import Tensor

from recis_core.exchange.owners import Owners
from recis_core.exchange.sharded_table import Asked, ShardedTable


class ReplicatedTable(ShardedTable):
    """All rows on all ranks."""

    replicated = True

    def _owners(self) -> Owners | None:
        return None

    def rows_here(self, asked: Asked) -> Tensor:
        """float32 [U, D] in the order of asked.keys."""
        ids, ordinals, mode = asked.keys.ids, asked.keys.ordinals, asked.mode
        self.state, rows, _ = self.backend.lookup(self.state, ids, ordinals, mode=mode, clock=self.clock)
        if mode.insert:
            self._tell(ids, ordinals)
        return self.backend.gather(self.state, rows, ids, ordinals, unknown=mode.unknown)
