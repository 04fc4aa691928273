"""Row numbers of keys, in host memory, and columns beside the rows.

Sizes: n keys of a call, R rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from recis_core.backends import TableSpec
from recis_core.backends.errors import CorruptStorage
from recis_core.backends.memory import zeroed
from recis_core.backends.numba_backend.export import erase
from recis_core.backends.numba_backend.find import find
from recis_core.backends.numba_backend.lookup import insert
from recis_core.backends.numba_backend.scratch import empty
from recis_core.backends.numba_backend.state import create_state
from recis_core.backends.tier_loops.columns import fill, new_column, put
from recis_core.backends.tier_loops.key_row_map import drop_rows, find_rows, insert_rows, places_for
from recis_core.backends.whole import settle

FIRST_ROWS = 1024
NO_BOUND = 1 << 62
Columns = dict[str, tuple[Any, Any]]  # name: dtype and what a new row has
KEY_COLUMNS: Columns = {"ids": (np.int64, 0), "tables": (np.int32, 0), "here": (np.bool_, False)}


class KeyIndex(ABC):
    """columns: arrays by row number, read and written in place as attributes of `at`.

    `at["here"]`, which rows hold a key, changes in one step. Where an exception leaves the way from keys to rows behind it,
    that is made anew from `here`.

    most: keys expected at once; room for more is made when they come.
    """

    def __init__(self, columns: Columns, most: int = NO_BOUND) -> None:
        self._most = most
        self._columns = {
            name: (np.dtype(dtype), np.dtype(dtype).type(new)) for name, (dtype, new) in (columns | KEY_COLUMNS).items()
        }
        self.at = {name: new_column(FIRST_ROWS, dtype, new) for name, (dtype, new) in self._columns.items()}
        self._count = 0
        self._whole = True  # whether all else agrees with `here`

    @abstractmethod
    def find(self, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        """Row numbers int32 [n] of unique keys, -1 for unknown."""

    @abstractmethod
    def add(self, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        """Row numbers int32 [n] for unique keys that have none."""

    @abstractmethod
    def drop(self, rows: np.ndarray) -> None:
        """Forget the keys of distinct rows; a row without a key is passed over."""

    @abstractmethod
    def _make_whole(self) -> None:
        """Make all else agree with `here`."""

    @abstractmethod
    def _index_bytes(self) -> int:
        """Without the columns."""

    def __len__(self) -> int:
        self._settle()
        return self._count

    def _settle(self) -> None:
        if not self._whole:
            self._make_whole()

    @property
    def whole(self) -> bool:
        """Whether no change was broken off."""
        return self._whole

    @property
    def rows(self) -> int:
        """Row numbers in use lie below this."""
        return len(self.at["here"])

    @property
    def bytes(self) -> int:
        return self._index_bytes() + sum(column.nbytes for column in self.at.values())

    def _begin(self, rows: np.ndarray, ids: np.ndarray, tables: np.ndarray) -> None:
        """Columns of rows that hold no key yet."""
        self._make_room(int(rows.max(initial=-1)) + 1)
        for name in self._columns.keys() - KEY_COLUMNS.keys():
            fill(self.at[name], rows, self._columns[name][1])
        put(self.at["ids"], rows, ids)
        put(self.at["tables"], rows, tables)

    def keys(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(ids int64, tables int32)"""
        return self.at["ids"][rows], self.at["tables"][rows]

    def _make_room(self, rows: int) -> None:
        """All columns grow, or none."""
        capacity = self.rows
        if rows <= capacity:
            return
        while capacity < rows:
            capacity = self._twice(capacity, rows)
        wider = {name: new_column(capacity, dtype, new) for name, (dtype, new) in self._columns.items()}
        for name, column in wider.items():
            column[: self.rows] = self.at[name]
        self.at.update(wider)

    def _twice(self, size: int, needed: int) -> int:
        """Room for `needed` keys, which may after all be more than `most`."""
        return 2 * size if needed > self._most else min(2 * size, self._most)

    def all_rows(self) -> np.ndarray:
        """int64, ascending: the rows that hold a key."""
        return np.flatnonzero(self.at["here"])


class PlacedIndex(KeyIndex):
    """Numbers of docs/placement.md: new keys, ascending, take the rows erased last, then rows never used. A device table
    that inserts and erases the same keys has the same numbers, and is never read for them.

    After an exception `add` or `drop` may be called again with the same arguments, to be done as a whole.
    """

    def __init__(self, uids: tuple[int, ...], columns: Columns, most: int = NO_BOUND) -> None:
        super().__init__(columns, most)
        self._table = create_state(TableSpec(1, uids, rows=FIRST_ROWS))

    def find(self, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        settle(self._table)
        return find(self._table, ids, tables, None).rows

    def add(self, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        rows = None if self._whole else self.find(ids, tables)
        self._whole = False
        if rows is None or (rows < 0).any():
            rows = insert(self._table, ids, tables)
        self._begin(rows, ids, tables)
        fill(self.at["here"], rows, True)
        self._make_whole()
        return rows

    def drop(self, rows: np.ndarray) -> None:
        self._whole = False
        erase(self._table, self.at["ids"][rows], self.at["tables"][rows])
        self.at["here"][rows] = False
        self._make_whole()

    def _make_whole(self) -> None:
        self._count, self._whole = self._table.used, True

    def _index_bytes(self) -> int:
        return self._table.index.entries.nbytes + self._table.index.tags.nbytes


class FreeIndex(KeyIndex):
    """Of rows whose numbers are used here alone: new keys take rows erased last, then rows never used.

    Keys take rows in two steps, so that what rows hold can be written before anybody finds them:
        rows = index.reserve(ids, tables)
        …
        index.commit(rows, ids, tables)
    """

    def __init__(self, columns: Columns, most: int = NO_BOUND) -> None:
        super().__init__(columns, most)
        self._places = np.zeros(places_for(FIRST_ROWS), np.uint64)
        self._free = np.zeros(FIRST_ROWS, np.int32)
        self._freed = self._next = 0  # rows in `_free`, the one erased last at the end; the first row never used

    def find(self, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        self._settle()
        rows = empty(len(ids), np.int32)
        find_rows(ids, tables, self._places, self.at["ids"], self.at["tables"], rows)
        return rows

    def add(self, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        rows = self.reserve(ids, tables)
        self.commit(rows, ids, tables)
        return rows

    def reserve(self, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        """Row numbers int32 [n] for unique keys that have none: theirs if `commit` is the next change."""
        self._settle()
        self._widen(self._count + len(ids))
        left = max(0, self._freed - len(ids))
        reused = self._free[left : self._freed][::-1]
        fresh = np.arange(self._next, self._next + len(ids) - len(reused), dtype=np.int32)
        rows = np.concatenate([reused, fresh])
        self._begin(rows, ids, tables)
        return rows

    def commit(self, rows: np.ndarray, ids: np.ndarray, tables: np.ndarray) -> None:
        """From now on `find` gives these rows for the keys."""
        count, left = self._count + len(rows), max(0, self._freed - len(rows))
        following = max(self._next, int(rows.max(initial=-1)) + 1)
        self._whole = False
        checked(insert_rows(ids, tables, rows, self._places))
        fill(self.at["here"], rows, True)
        self._count, self._freed, self._next, self._whole = count, left, following, True

    def _widen(self, rows: int) -> None:
        if 3 * rows >= 2 * len(self._places) and places_for(rows) > len(self._places):
            self._places = self._placed(places_for(self._twice(rows, rows)))

    def _placed(self, size: int) -> np.ndarray:
        places, held = zeroed((size,), np.dtype(np.uint64)), self.all_rows().astype(np.int32)
        checked(insert_rows(self.at["ids"][held], self.at["tables"][held], held, places))
        return places

    def drop(self, rows: np.ndarray) -> None:
        self._settle()
        rows = rows[self.at["here"][rows]]
        end, free = self._freed + len(rows), self._free
        if end > len(free):
            free = np.concatenate([free, np.empty(end, np.int32)])
        free[self._freed : end] = rows
        count = self._count - len(rows)
        self._whole = False
        self.at["here"][rows] = False
        checked(drop_rows(rows, self._places, self.at["ids"], self.at["tables"]))
        self._free, self._freed, self._count, self._whole = free, end, count, True

    def _make_whole(self) -> None:
        places, held = self._placed(len(self._places)), self.all_rows()
        following = int(held[-1]) + 1 if len(held) else 0
        unused = np.flatnonzero(~self.at["here"][:following])[::-1].astype(np.int32)
        free = np.concatenate([unused, np.empty(max(0, FIRST_ROWS - len(unused)), np.int32)])
        self._places, self._free, self._freed, self._next = places, free, len(unused), following
        self._count, self._whole = len(held), True

    def _index_bytes(self) -> int:
        return self._places.nbytes + self._free.nbytes


def checked(whole: bool) -> None:
    """
    Raises:
      CorruptStorage: a loop went through all places of an index and did not find what had to be there.
    """
    if not whole:
        raise CorruptStorage(
            "an index of rows in memory does not hold what it held before; it is made anew from the rows' keys at the next "
            "call. Memory was written from outside, or this is a bug: please report it."
        )
