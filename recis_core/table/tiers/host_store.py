"""The tier in host memory: an index over blocks of rows.

Sizes: n keys of a call, R rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recis_core.backends.tier_loops.columns import fill, put
from recis_core.table.tier_store import Chunk
from recis_core.table.tiers.key_index import NO_BOUND, FreeIndex
from recis_core.table.tiers.row_blocks import RowBlocks
from recis_core.table.tiers.row_format import Parts
from recis_core.table.tiers.victims import Victims


class HostStore:
    """Rows of bytes by key, with each row's score, and whether the disk has the same bytes.

    Its caller holds the table's lock.
    """

    def __init__(self, cuts: np.ndarray, most: int = NO_BOUND) -> None:
        """cuts: where a row's parts begin, in bytes, and where the last one ends. most: as KeyIndex's."""
        self.index = FreeIndex({"score": (np.float64, -np.inf), "clean": (np.bool_, False)}, most)
        self.rows_of = self.index.find  # (ids, tables) -> row numbers int32 [n], -1 for none
        self._blocks = RowBlocks(cuts)
        self._victims = Victims()

    def __len__(self) -> int:
        return len(self.index)

    def read_at(self, at: np.ndarray) -> Parts:
        """By row number."""
        return self._blocks.read_parts(at)

    def write_at(self, at: np.ndarray, ids: np.ndarray, tables: np.ndarray, rows: Parts, scores: np.ndarray) -> None:
        """Insert or overwrite; at: where each key lies now, -1 for none. scores: float64 [n].

        New keys are found once all is written; what broke off leaves those that were here as they were or as they are given.
        """
        new = np.flatnonzero(at < 0)
        keys = ids[new], tables[new]
        if len(new):
            at[new] = self.index.reserve(*keys)
            self._blocks.make_room(len(self.index.at["here"]))
        put(self.index.at["score"], at, scores)
        fill(self.index.at["clean"], at, False)
        self._blocks.write(at, rows)
        if len(new):
            self.index.commit(at[new], *keys)

    def lowest(self, count: int) -> np.ndarray:
        """Row numbers int64 of those that leave first."""
        return self._victims.pick(count, self.index.at["score"], lambda rows: self.index.at["here"][rows])

    def take(self, at: np.ndarray) -> Chunk:
        """(ids, tables, rows) by row number."""
        return *self.index.keys(at), self._blocks.read(at)

    def drop(self, at: np.ndarray) -> None:
        self.index.drop(at)

    def erase(self, ids: np.ndarray, tables: np.ndarray) -> int:
        rows = self.index.find(ids, tables)
        rows = rows[rows >= 0]
        if len(rows):
            self.index.drop(rows)
        return len(rows)

    def scan(self, chunk: int = 65_536) -> Iterator[Chunk]:
        for beg in range(0, self.index.rows, chunk):
            rows = beg + np.flatnonzero(self.index.at["here"][beg : beg + chunk])
            if len(rows):
                yield self.take(rows)

    def stats(self) -> dict[str, int]:
        return {"rows": len(self), "bytes": self._blocks.bytes + self.index.bytes}
