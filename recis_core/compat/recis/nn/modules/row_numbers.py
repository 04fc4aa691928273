"""RecIS's row numbers, by which `ids_map`, `embeddings` and slots are laid out.

RecIS numbers rows from 0: new ids of a call get fresh numbers, the first the highest, then numbers of deleted rows. Ours
are kept apart, for rows of ours move. Numbers are given when somebody looks.

Sizes: n rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.backends.errors import RecisError
from recis_core.backends.records import Marks
from recis_core.table.table import Table


class RowNumbers:
    """The numbers of a physical table's rows on this rank."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.numbers = torch.zeros(0, dtype=torch.int64)  # of our rows, -1 for none; by our number
        self.ids, self.ordinals = self.numbers, self.numbers  # whose number it is; by our number
        self.free: list[int] = []
        self.end = 0  # the first number never given

    def now(self) -> tuple[Marks, Tensor]:
        """The rows there are, ascending by table and id, and their numbers int64 [n].

        Raises:
          RecisError: the table is in tiers, whose row numbers change.
        """
        if self.table.storage.tiers is not None:
            raise RecisError(f"rows of tables {', '.join(self.table.names)} have no numbers, for they are in tiers.")
        with self.table.lock:
            marks = self.table.storage.marks()
        rows = marks.rows.long()
        self._grow(int(rows.max()) + 1 if len(rows) else 0)
        known = (self.numbers[rows] >= 0) & (self.ids[rows] == marks.ids) & (self.ordinals[rows] == marks.tables)
        self._free_others(rows[known])
        self._number(rows[~known], marks.ids[~known], marks.tables[~known].long())
        return marks, self.numbers[rows]

    def _grow(self, rows: int) -> None:
        more = rows - len(self.numbers)
        if more > 0:
            none = torch.full((more,), -1, dtype=torch.int64)
            self.numbers, self.ids = torch.cat([self.numbers, none]), torch.cat([self.ids, none])
            self.ordinals = torch.cat([self.ordinals, none])

    def _free_others(self, kept: Tensor) -> None:
        """Numbers whose rows are gone may be given again."""
        gone = self.numbers >= 0
        gone[kept] = False
        self.free += sorted(self.numbers[gone].tolist())
        self.numbers[gone] = -1

    def _number(self, rows: Tensor, ids: Tensor, ordinals: Tensor) -> None:
        reused = min(len(rows), len(self.free))
        fresh = torch.arange(self.end, self.end + len(rows) - reused).flip(0)
        self.numbers[rows] = torch.cat([fresh, torch.tensor(self.free[:reused], dtype=torch.int64)])
        self.ids[rows], self.ordinals[rows] = ids, ordinals
        self.end, self.free = self.end + len(fresh), self.free[reused:]
