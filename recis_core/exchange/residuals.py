"""What this rank has not yet said of gradients it sent in few bits: added to the next ones (error feedback).

A table of its own at each sender, float32 and unscaled, bounded in bytes. A key that finds no room is sent exactly,
so that Σ sent + residual = Σ true always holds. What a step would leave is written only when that step is applied.

Sizes: U unique keys, D dim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from backends import Clock, LookupMode, SlotSpec, TableSpec
from backends.interface import Snapshot
from recis_core.exchange.keys import SortedKeys

if TYPE_CHECKING:
    from recis_core.exchange.sharded_table import ShardedTable

SLOT = "residual"
KEY_BYTES = 40  # a key's share of index and weights at the load the index grows to
FIRST_ROWS = 1024


class Residuals:
    """Of one storage.

    Args:
      budget: bytes of rows and index at most.
    """

    def __init__(self, table: ShardedTable, budget: int) -> None:
        self.backend, self.dim = table.backend, table.spec.dim
        self.capacity = max(1, budget // (4 * self.dim + KEY_BYTES))
        self.overflowed = 0  # rows sent exactly for want of room, so far
        spec = TableSpec(
            1, table.spec.uids, device=table.spec.device, rows=min(FIRST_ROWS, self.capacity), max_rows=self.capacity
        )
        self.state = self.backend.add_slots(self.backend.create(spec), (SlotSpec(SLOT, self.dim),))
        self._staged: tuple[SortedKeys, Tensor] | None = None

    def read(self, keys: SortedKeys) -> tuple[Tensor, Tensor]:
        """What is kept for keys, float32 [U, D], zeros for new ones; and positions int64 of new ones without room."""
        mode = LookupMode(insert=False, touch=False)
        self.state, rows, _ = self.backend.lookup(self.state, keys.ids, keys.ordinals, mode=mode, clock=Clock())
        new = (rows < 0).nonzero().flatten()
        room = self.capacity - self.backend.counters(self.state).rows
        homeless = new[max(0, room) :]
        self.overflowed += len(homeless)
        return self.backend.read_slot(self.state, SLOT, rows), homeless

    def stage(self, keys: SortedKeys, left: Tensor) -> None:
        """What a step will leave, float32 [U, D], once it is applied."""
        self._staged = keys, left

    def commit(self) -> None:
        """The step was applied."""
        staged, self._staged = self._staged, None
        if staged is None or not len(staged[0].ids):
            return
        keys, left = staged
        stays = (left != 0).any(1)
        self.state = self.backend.erase(self.state, keys.ids[~stays], keys.ordinals[~stays])
        ids, ordinals = keys.ids[stays], keys.ordinals[stays]
        mode = LookupMode(insert=True, touch=False)
        self.state, rows, _ = self.backend.lookup(self.state, ids, ordinals, mode=mode, clock=Clock())
        self.state = self.backend.write_slot(self.state, SLOT, rows, left[stays])

    def drop(self) -> None:
        """The step was skipped."""
        self._staged = None

    def snapshot(self) -> Snapshot:
        """All that is kept: ids, ordinals and the slot, on the CPU."""
        return self.backend.export(self.state)

    def restore(self, ids: Tensor, ordinals: Tensor, values: Tensor) -> None:
        """Keep these instead: what `snapshot` gave.

        Raises:
          TableFull: there is no room for them in the budget.
        """
        self.clear()
        mode, device = LookupMode(insert=True, touch=False), torch.device(self.state.spec.device)
        keys = ids.to(device), ordinals.to(device)
        self.state, rows, _ = self.backend.lookup(self.state, *keys, mode=mode, clock=Clock())
        self.state = self.backend.write_slot(self.state, SLOT, rows, values.to(device))

    def clear(self) -> None:
        kept = self.snapshot()
        device = torch.device(self.state.spec.device)
        self.state = self.backend.erase(self.state, kept.ids.to(device), kept.tables.to(device))
