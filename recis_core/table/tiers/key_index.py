"""Row numbers of keys in host memory: the numba table's index, and what stands beside each row.

Numbers are as PLACEMENT says: new keys, ascending, take the rows erased last, then rows never used. A device table that is
led through the same keys has the same numbers, so nobody asks it for them.

Sizes: n keys of a call, R rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from backends import LookupMode, TableSpec
from backends.numba_backend.columns import fill, new_column, put
from backends.numba_backend.export import erase
from backends.numba_backend.find import find
from backends.numba_backend.lookup import insert
from backends.numba_backend.partition import Unique, unique_keys
from backends.numba_backend.state import TableState, create_state

FIRST_ROWS = 1024
INSERT = LookupMode(insert=True, touch=False)
Columns = dict[str, tuple[Any, Any]]  # name: dtype and what a new row has


class KeyIndex:
    """columns: arrays by row number, read and written in place as attributes of `at`.

    table: whose index this is; None for an index of no table's.
    """

    def __init__(self, uids: tuple[int, ...], columns: Columns, table: TableState | None = None) -> None:
        self._table = create_state(TableSpec(1, uids, rows=FIRST_ROWS)) if table is None else table
        self._rows_begin = table is not None
        own = {"ids": (np.int64, 0), "tables": (np.int32, 0), "here": (np.bool_, False)}
        self._columns = {
            name: (np.dtype(dtype), np.dtype(dtype).type(new)) for name, (dtype, new) in (columns | own).items()
        }
        self.at = {name: new_column(FIRST_ROWS, dtype, new) for name, (dtype, new) in self._columns.items()}
        self.count = 0

    def __len__(self) -> int:
        return self.count

    @property
    def rows(self) -> int:
        """Row numbers in use lie below this."""
        return len(self.at["here"])

    @property
    def bytes(self) -> int:
        return self.rows * (8 + 44) + sum(column.nbytes for column in self.at.values())

    def unique(self, ids: np.ndarray, lengths: tuple[int, ...], tables: tuple[int, ...]) -> Unique:
        """Unique keys of a call; its tables come in runs of these lengths."""
        return unique_keys(ids, np.array(lengths, np.int64), np.array(tables, np.int32))

    def find(self, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        """int32 [n] of unique keys, -1 for those that are not here."""
        return find(self._table, ids, tables, None).rows

    def add(self, ids: np.ndarray, tables: np.ndarray, begin: np.ndarray | None = None) -> np.ndarray:
        """Row numbers int32 [n] of unique keys that are not here yet.

        begin: bool [n], which of them begin with initial values, if this is a table's index; None for all.
        """
        begin = begin if self._rows_begin else np.zeros(len(ids), np.bool_)
        rows = insert(self._table, ids, tables, mode=INSERT, begin=begin)
        self._make_room(int(rows.max(initial=-1)) + 1)
        for name, (_, new) in self._columns.items():
            fill(self.at[name], rows, new)
        put(self.at["ids"], rows, ids)
        put(self.at["tables"], rows, tables)
        fill(self.at["here"], rows, True)
        self.count += len(rows)
        return rows

    def drop(self, rows: np.ndarray) -> None:
        """Forget the keys of distinct rows."""
        erase(self._table, self.at["ids"][rows], self.at["tables"][rows])
        self.at["here"][rows] = False
        self.count -= len(rows)

    def keys(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """(ids int64, tables int32), on the CPU"""
        return torch.from_numpy(self.at["ids"][rows]), torch.from_numpy(self.at["tables"][rows])

    def _make_room(self, rows: int) -> None:
        capacity = self.rows
        while capacity < rows:
            capacity *= 2
        for name, (dtype, new) in self._columns.items():
            if capacity > len(self.at[name]):
                grown = new_column(capacity, dtype, new)
                grown[: self.rows] = self.at[name]
                self.at[name] = grown

    def all_rows(self) -> np.ndarray:
        """int64, ascending: the rows that hold a key."""
        return np.flatnonzero(self.at["here"])
