"""One logical table, as far as its rows are on this rank.

All but `snapshot` reads no more of the storage than it is asked for.

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

PLACES = 1 << 12  # of an index, looked at together at least


class NamedTable:
    """The table `name`, which is logical table number `ordinal` of a physical one."""

    def __init__(self, table: Table, ordinal: int) -> None:
        self.table, self.ordinal, self.name = table, ordinal, table.names[ordinal]

    @property
    def dim(self) -> int:
        """Columns of a whole row."""
        return self.table.row_dim

    def slices(self) -> tuple[int, int] | None:
        """The run of the hash's slices [beg, end) that is saved from here; None for none."""
        return self.table.slices(self.ordinal)

    def keeps(self, ids: Tensor) -> Tensor:
        """bool [n]: which ids belong here."""
        return self.table.keeps(ids, self.ordinal)

    def snapshot(self) -> Snapshot:
        """Its share of the storage, on the CPU."""
        whole = self.table.export()
        mine = whole.tables == self.ordinal
        slots = {name: values[mine] for name, values in whole.slots.items()}
        rows = None if whole.row_numbers is None else whole.row_numbers[mine]
        return Snapshot(whole.ids[mine], whole.tables[mine], whole.weights[mine], slots, row_numbers=rows)

    def insert(self, ids: Tensor, rows: Tensor) -> None:
        """Set the rows [n, D] of unique ids, as they are stored; their slots begin anew."""
        ids = ids.cpu()
        self.table.insert(Snapshot(ids, self.ordinals(ids), rows.cpu(), {}))

    def count(self) -> int:
        """Rows."""
        with self.table.lock:
            return self.table.storage.rows_by_table()[self.ordinal]

    def lookup(self, ids: Tensor, unknown: str) -> tuple[Tensor, Tensor]:
        """Rows float32 [N, D] of ids int64 [N], and which of them are there, bool [N]. Counts no use, and moves no row."""
        table, ordinals = self.table, self.ordinals(ids)
        with table.lock:
            p = table.storage.partition(ids, ordinals)
            rows = self._find(p.ids, p.tables)
            values = table.storage.gather(rows, p.ids, p.tables, unknown=unknown)
        at = p.inverse.long()
        return values[at], (rows >= 0)[at]

    def found(self, ids: Tensor) -> Tensor:
        """bool [U]: which of unique ids are there."""
        with self.table.lock:
            return self._find(ids, self.ordinals(ids)) >= 0

    def _find(self, ids: Tensor, ordinals: Tensor) -> Tensor:
        mode, clock = LookupMode(insert=False, touch=False), self.table.clock
        return self.table.storage.lookup(ids, ordinals, mode=mode, clock=clock)[0]

    def erase(self, ids: Tensor) -> int:
        """Forget ids, with all that waits for them; how many were there."""
        ids = ids.unique()
        with self.table.lock:
            gone = int(self.found(ids).sum())
            self.table.erase(ids, self.ordinal)
        return gone

    def items(self, most: int) -> Iterator[tuple[Tensor, Tensor]]:
        """ids int64 [n] and rows float32 [n, D], n ≤ most, on the CPU, in the order in which rows lie.

        Raises:
          RecisError: the table has changed since the part before.
        """
        before = self._version()
        for ids, rows in self._parts(most):
            yield ids, rows
            if self._version() != before:
                raise RecisError(
                    f"table {self.name!r} has changed since its items() began: rows came, went, moved or were stepped, and the "
                    "rest would be of another table. Go through it between steps, and beside a Prefetcher after its last batch."
                )

    def _version(self) -> tuple[object, ...]:
        table = self.table
        with table.lock:
            return table.step, table.replacements, table.written, table.storage.layout()

    def _parts(self, most: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All but the last have `most` rows."""
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
        """ids, and their row numbers or what they hold, as Storage.pieces."""
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
        """int32 [n], beside ids."""
        return torch.full((len(ids),), self.ordinal, dtype=torch.int32, device=ids.device)
