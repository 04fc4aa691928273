"""What a logical table is asked for beside training: how many rows, which, what they hold, and to forget some.

None of it reads more of the storage than it is asked for.

Sizes: N ids, U unique ids, n rows of a part, D dim.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recis_core.backends import LookupMode
from recis_core.backends.errors import RecisError
from recis_core.plain_torch import in_plain_torch

if TYPE_CHECKING:
    from recis_core.table.physical import PhysicalTable

PLACES = 1 << 12  # of an index, looked at together at least


class Verbs:
    """Of one logical table of a storage, as far as its rows are on this rank."""

    def __init__(self, table: PhysicalTable, ordinal: int) -> None:
        self.table, self.ordinal, self.name = table, ordinal, table.names[ordinal]

    def count(self) -> int:
        """Rows."""
        with self.table.lock:
            return self.table.storage.rows_by_table()[self.ordinal]

    def lookup(self, ids: Tensor, unknown: str) -> tuple[Tensor, Tensor]:
        """Rows float32 [N, D] of ids int64 [N], and which of them are there, bool [N]. Counts no use, and moves no row."""
        table, ordinals = self.table, self._ordinals(ids)
        with table.lock:
            p = table.storage.partition(ids, ordinals)
            rows = self._find(p.ids, p.tables)
            values = table.storage.gather(rows, p.ids, p.tables, unknown=unknown)
        at = p.inverse.long()
        return values[at], (rows >= 0)[at]

    def found(self, ids: Tensor) -> Tensor:
        """bool [U]: which of unique ids are there."""
        with self.table.lock:
            return self._find(ids, self._ordinals(ids)) >= 0

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
        for part in self._pieces(max(most, PLACES)):
            held.append(part)
            while sum(len(ids) for ids, _ in held) >= most:
                ids, rows = (torch.cat(list(parts)) for parts in zip(*held, strict=True))
                held = [(ids[most:], rows[most:])]
                yield ids[:most], self._values(ids[:most], rows[:most])
        if any(len(ids) for ids, _ in held):
            ids, rows = (torch.cat(list(parts)) for parts in zip(*held, strict=True))
            yield ids, self._values(ids, rows)

    def _pieces(self, most: int) -> Iterator[tuple[Tensor, Tensor]]:
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
        table, ordinals = self.table, self._ordinals(ids)
        keys = rows.to(table.device), ids.to(table.device), ordinals.to(table.device)
        with table.lock:
            return table.storage.gather(*keys).cpu()

    def _ordinals(self, ids: Tensor) -> Tensor:
        return torch.full((len(ids),), self.ordinal, dtype=torch.int32, device=ids.device)
