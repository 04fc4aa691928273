"""One logical table's rows on this rank.

`snapshot` reads the whole storage; the other verbs read only the rows that they return.

Sizes: N ids, U unique ids, n rows of a part, D dim.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recis_core.backends import LookupMode, Snapshot
from recis_core.backends.errors import RecisError
from recis_core.plain_torch import in_plain_torch

if TYPE_CHECKING:
    from recis_core.table.table import Table

PLACES = 1 << 12  # of an index, read at a time at least


class NamedTable:
    """The table `name`, which is logical table number `ordinal` of a physical one."""

    def __init__(self, table: Table, ordinal: int) -> None:
        self.table, self.ordinal, self.name = table, ordinal, table.names[ordinal]

    @property
    def dim(self) -> int:
        """Columns of a whole row."""
        return self.table.row_dim

    def slices(self) -> tuple[int, int] | None:
        return self.table.slices(self.ordinal)

    def keeps(self, ids: Tensor) -> Tensor:
        return self.table.keeps(ids, self.ordinal)

    def snapshot(self) -> Snapshot:
        """The table's rows and slots, on the CPU."""
        whole = self.table.export()
        mine = whole.tables == self.ordinal
        slots = {name: values[mine] for name, values in whole.slots.items()}
        rows = None if whole.row_numbers is None else whole.row_numbers[mine]
        return Snapshot(whole.ids[mine], whole.tables[mine], whole.weights[mine], slots, row_numbers=rows)

    def insert(self, ids: Tensor, rows: Tensor) -> None:
        """Set the rows [n, D] of unique ids, in the storage dtype; their slots get initial values."""
        ids = ids.cpu()
        self.table.insert(Snapshot(ids, self.ordinals(ids), rows.cpu(), {}))

    def count(self) -> int:
        with self.table.lock:
            return self.table.storage.rows_by_table()[self.ordinal]

    def lookup(self, ids: Tensor, unknown: str) -> tuple[Tensor, Tensor]:
        """Rows float32 [N, D] of ids int64 [N], and which ids have one, bool [N]. Counts no use, moves no row."""
        table, ordinals = self.table, self.ordinals(ids)
        with table.lock:
            p = table.storage.partition(ids, ordinals)
            rows = self._find(p.ids, p.tables)
            values = table.storage.gather(rows, p.ids, p.tables, unknown=unknown)
        at = p.inverse.long()
        return values[at], (rows >= 0)[at]

    def found(self, ids: Tensor) -> Tensor:
        """bool [U]: which of unique ids have a row."""
        with self.table.lock:
            return self._find(ids, self.ordinals(ids)) >= 0

    def _find(self, ids: Tensor, ordinals: Tensor) -> Tensor:
        mode, clock = LookupMode(insert=False, touch=False), self.table.clock
        return self.table.storage.lookup(ids, ordinals, mode=mode, clock=clock)[0]

    def erase(self, ids: Tensor) -> int:
        """Erase ids, their pending gradients and waiting slots; returns how many had a row."""
        ids = ids.unique()
        with self.table.lock:
            gone = int(self.found(ids).sum())
            self.table.erase(ids, self.ordinal)
        return gone

    def items(self, most: int) -> Iterator[tuple[Tensor, Tensor]]:
        """ids int64 [n] and rows float32 [n, D], n ≤ most, on the CPU, in storage order.

        Raises:
          RecisError: the table has changed since the last part.
        """
        before = self._version()
        for ids, rows in self._parts(most):
            yield ids, rows
            if self._version() != before:
                raise RecisError(
                    f"table {self.name!r} has changed since its items() began: rows were added, erased, moved or updated. "
                    "Iterate between steps, and with a Prefetcher after its last batch."
                )

    def _version(self) -> tuple[object, ...]:
        table = self.table
        with table.lock:
            return table.step, table.replacements, table.written, table.storage.layout()

    def _parts(self, most: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Parts of `most` rows; the last may have fewer."""
        held: list[tuple[Tensor, Tensor]] = []
        for part in self.pieces(max(most, PLACES)):
            held.append(part)
            while sum(len(ids) for ids, _ in held) >= most:
                ids, rows = (torch.cat(list(parts)) for parts in zip(*held, strict=True))
                held = [(ids[most:], rows[most:])]
                yield ids[:most], self._values(ids[:most], rows[:most])
        if any(len(ids) for ids, _ in held):
            ids, rows = (torch.cat(list(parts)) for parts in zip(*held, strict=True))
            yield ids, self._values(ids, rows)

    def pieces(self, most: int) -> Iterator[tuple[Tensor, Tensor]]:
        """As Storage.pieces; takes the lock for each piece."""
        pieces = self.table.storage.pieces(self.ordinal, most)
        while True:
            with self.table.lock:
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece

    @in_plain_torch
    def _values(self, ids: Tensor, rows: Tensor) -> Tensor:
        if rows.dim() == 2:
            return rows.float()
        table, ordinals = self.table, self.ordinals(ids)
        keys = rows.to(table.device), ids.to(table.device), ordinals.to(table.device)
        with table.lock:
            return table.storage.gather(*keys).cpu()

    def ordinals(self, ids: Tensor) -> Tensor:
        return torch.full((len(ids),), self.ordinal, dtype=torch.int32, device=ids.device)
