"""Row numbers of keys in host memory, and what stands beside each row.

Sizes: n keys of a call, R rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch

from backends import TableSpec
from backends.numba_backend.columns import fill, new_column, put
from backends.numba_backend.export import erase
from backends.numba_backend.find import find
from backends.numba_backend.lookup import insert
from backends.numba_backend.memory import zeroed
from backends.numba_backend.row_map import drop_rows, find_rows, insert_rows, places_for
from backends.numba_backend.scratch import empty
from backends.numba_backend.state import create_state

FIRST_ROWS = 1024
NO_BOUND = 1 << 62
Columns = dict[str, tuple[Any, Any]]  # name: dtype and what a new row has
KEY_COLUMNS: Columns = {"ids": (np.int64, 0), "tables": (np.int32, 0), "here": (np.bool_, False)}


class KeyIndex(ABC):
    """columns: arrays by row number, read and written in place as attributes of `at`.

    most: keys that are expected at once; no room is made for more before they come.
    """

    def __init__(self, columns: Columns, most: int = NO_BOUND) -> None:
        self._most = most
        self._columns = {
            name: (np.dtype(dtype), np.dtype(dtype).type(new)) for name, (dtype, new) in (columns | KEY_COLUMNS).items()
        }
        self.at = {name: new_column(FIRST_ROWS, dtype, new) for name, (dtype, new) in self._columns.items()}
        self.count = 0

    @abstractmethod
    def find(self, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        """int32 [n] of unique keys, -1 for those that are not here."""

    @abstractmethod
    def _insert(self, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        """Row numbers int32 [n]."""

    @abstractmethod
    def _erase(self, rows: np.ndarray) -> None: ...

    @abstractmethod
    def _index_bytes(self) -> int:
        """Beside the columns."""

    def __len__(self) -> int:
        return self.count

    @property
    def rows(self) -> int:
        """Row numbers in use lie below this."""
        return len(self.at["here"])

    @property
    def bytes(self) -> int:
        return self._index_bytes() + sum(column.nbytes for column in self.at.values())

    def add(self, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        """Row numbers int32 [n] of unique keys that are not here yet."""
        rows = self._insert(ids, tables)
        self._make_room(int(rows.max(initial=-1)) + 1)
        for name in self._columns.keys() - KEY_COLUMNS.keys():
            fill(self.at[name], rows, self._columns[name][1])
        put(self.at["ids"], rows, ids)
        put(self.at["tables"], rows, tables)
        fill(self.at["here"], rows, True)
        self.count += len(rows)
        return rows

    def drop(self, rows: np.ndarray) -> None:
        """Forget the keys of distinct rows."""
        self._erase(rows)
        self.at["here"][rows] = False
        self.count -= len(rows)

    def keys(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """(ids int64, tables int32), on the CPU"""
        return torch.from_numpy(self.at["ids"][rows]), torch.from_numpy(self.at["tables"][rows])

    def _make_room(self, rows: int) -> None:
        capacity = self.rows
        while capacity < rows:
            capacity = self._twice(capacity, rows)
        for name, (dtype, new) in self._columns.items():
            if capacity > len(self.at[name]):
                grown = new_column(capacity, dtype, new)
                grown[: self.rows] = self.at[name]
                self.at[name] = grown

    def _twice(self, size: int, needed: int) -> int:
        """Room for `needed` keys, which may after all be more than `most`."""
        return 2 * size if needed > self._most else min(2 * size, self._most)

    def all_rows(self) -> np.ndarray:
        """int64, ascending: the rows that hold a key."""
        return np.flatnonzero(self.at["here"])


class PlacedIndex(KeyIndex):
    """Numbers as PLACEMENT says: new keys, ascending, take the rows erased last, then rows never used. A device table that
    is led through the same keys has the same numbers, so nobody asks it for them.
    """

    def __init__(self, uids: tuple[int, ...], columns: Columns, most: int = NO_BOUND) -> None:
        super().__init__(columns, most)
        self._table = create_state(TableSpec(1, uids, rows=FIRST_ROWS))

    def find(self, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        return find(self._table, ids, tables, None).rows

    def _insert(self, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        return insert(self._table, ids, tables)

    def _erase(self, rows: np.ndarray) -> None:
        erase(self._table, self.at["ids"][rows], self.at["tables"][rows])

    def _index_bytes(self) -> int:
        return self._table.index.entries.nbytes + self._table.index.tags.nbytes


class FreeIndex(KeyIndex):
    """Of rows whose numbers nobody else knows: those erased last are taken first, then rows never used."""

    def __init__(self, columns: Columns, most: int = NO_BOUND) -> None:
        super().__init__(columns, most)
        self._places = np.zeros(places_for(FIRST_ROWS), np.uint64)
        self._free = np.zeros(FIRST_ROWS, np.int32)
        self._freed = self._next = 0  # rows in `_free`, the one erased last at the end; the first row never used

    def find(self, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        rows = empty(len(ids), np.int32)
        find_rows(ids, tables, self._places, self.at["ids"], self.at["tables"], rows)
        return rows

    def _insert(self, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        self._widen(self.count + len(ids))
        left = max(0, self._freed - len(ids))
        reused = self._free[left : self._freed][::-1]
        fresh = np.arange(self._next, self._next + len(ids) - len(reused), dtype=np.int32)
        rows = np.concatenate([reused, fresh])
        self._freed, self._next = left, self._next + len(fresh)
        insert_rows(ids, tables, rows, self._places)
        return rows

    def _widen(self, rows: int) -> None:
        if places_for(rows) <= len(self._places):
            return
        self._places = zeroed((places_for(self._twice(rows, rows)),), np.dtype(np.uint64))
        held = self.all_rows().astype(np.int32)
        insert_rows(self.at["ids"][held], self.at["tables"][held], held, self._places)

    def _erase(self, rows: np.ndarray) -> None:
        drop_rows(rows, self._places, self.at["ids"], self.at["tables"])
        end = self._freed + len(rows)
        if end > len(self._free):
            self._free = np.concatenate([self._free, np.empty(end, np.int32)])
        self._free[self._freed : end] = rows
        self._freed = end

    def _index_bytes(self) -> int:
        return self._places.nbytes + self._free.nbytes
