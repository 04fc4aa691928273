"""Values by key beside a table, on this rank alone, in one slot of a storage of the same backend.

Sizes: U unique keys, width columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.backends import Backend, Clock, LookupMode, SlotSpec, TableSpec
from recis_core.backends.records import Snapshot
from recis_core.table.plain_storage import PlainStorage

SLOT = "values"
KEY_BYTES = 40  # a key's share of index and weights at the load the index grows to
FIRST_ROWS = 1024


class KeyedRows:
    """float32 [width] by (logical table, id); a key that was not written reads as zeros.

    Args:
      spec: of the table whose keys these are. capacity: keys at most.
    """

    def __init__(self, backend: Backend, spec: TableSpec, width: int, capacity: int) -> None:
        self.backend, self.capacity, self.device = backend, capacity, torch.device(spec.device)
        self.spec, self.width = spec, width
        mine = TableSpec(1, spec.uids, device=spec.device, rows=min(FIRST_ROWS, capacity), max_rows=capacity)
        self._storage = PlainStorage(self.backend, mine, (SlotSpec(SLOT, width),))

    @property
    def room(self) -> int:
        return self.capacity - self._storage.counters().rows

    def find(self, ids: Tensor, ordinals: Tensor) -> Tensor:
        """Row numbers int32 [U]; -1 for unknown keys."""
        return self._lookup(ids, ordinals, insert=False)

    def read(self, rows: Tensor) -> Tensor:
        """float32 [U, width] by row number; -1 reads as zeros."""
        return self._storage.read_slot(SLOT, rows)

    def write(self, ids: Tensor, ordinals: Tensor, values: Tensor) -> None:
        """Set unique keys. Raises TableFull where there is no room."""
        if len(ids):
            rows = self._lookup(ids, ordinals, insert=True)
            self._storage.write_slot(SLOT, rows, values)

    def erase(self, ids: Tensor, ordinals: Tensor) -> None:
        """Forget unique keys."""
        if len(ids):
            self._storage.erase(ids, ordinals)

    def _lookup(self, ids: Tensor, ordinals: Tensor, *, insert: bool) -> Tensor:
        mode = LookupMode(insert=insert, touch=False)
        return self._storage.lookup(ids, ordinals, mode=mode, clock=Clock())[0]

    def snapshot(self) -> Snapshot:
        """All keys, ascending, on the CPU; their values are the slot `SLOT`."""
        return self._storage.export()

    def keys(self) -> tuple[Tensor, Tensor]:
        """ids int64 [n] and ordinals int32 [n], on the CPU."""
        kept = self._storage.marks()
        return kept.ids, kept.tables

    def another(self) -> KeyedRows:
        """An empty one."""
        return KeyedRows(self.backend, self.spec, self.width, self.capacity)
