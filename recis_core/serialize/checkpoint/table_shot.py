"""A rank's tables as they are at a save: rows kept as they are now, or read while they are written.

Sizes: n rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from recis_core.backends import Snapshot, placement
from recis_core.nn.hash_table import HashTable
from recis_core.serialize.checkpoint.table_files import NO_IDS, TableFiles
from recis_core.serialize.part_writers import PartWriters
from recis_core.serialize.table_block import TableBlock
from recis_core.serialize.table_entry import TableEntry
from recis_core.table.table import SLICES, Table

AT_ONCE = 1 << 13  # rows that are read from tiers at a time; reading takes several copies of them


@dataclass(frozen=True)
class StorageShot:
    """snapshots: the rows, all or some. whole: whether all. erased: {ordinal: ids that went since the base}.

    copied: whether the table may change before the rows are written. snapshots None: all, read while they are written.
    """

    table: Table
    snapshots: Iterable[Snapshot] | None = None
    copied: bool = True
    whole: bool = True
    erased: Mapping[int, Tensor] = field(default_factory=dict)

    def write(self, parts: PartWriters, rank: int | None, file_bytes: int) -> dict[str, TableEntry]:
        files = [self._files(ordinal, parts, rank, file_bytes) for ordinal in range(len(self.table.names))]
        for snapshot in self._read(files[0].rows_per_file) if self.snapshots is None else self.snapshots:
            for ordinal, each in enumerate(files):
                each.add(self._block(snapshot, ordinal))
        for ordinal, each in enumerate(files):
            each.end(self.erased.get(ordinal, NO_IDS))
        return {each.table: each.entry(whole=self.whole) for each in files}

    def _read(self, rows: int) -> Iterator[Snapshot]:
        """Of a table in memory a file's rows at a time, which then need not be joined."""
        table = self.table
        if table.storage.tiers is not None and table.columns != (0, table.row_dim):
            yield from _in_one_order(table)
            return
        with table.lock:
            yield from table.storage.snapshots(rows if table.storage.tiers is None else AT_ONCE)

    def _files(self, ordinal: int, parts: PartWriters, rank: int | None, file_bytes: int) -> TableFiles:
        spec, dtype = self.table.spec, getattr(torch, self.table.spec.dtype)
        files = TableFiles(parts, self.table.names[ordinal], spec.dim, dtype, rank)
        # Ranks that keep blocks of columns cut their files at the same rows.
        wide = 16 + self.table.row_dim * (dtype.itemsize + 4 * len(self.table.slot_specs))
        files.rows_per_file = max(1, file_bytes // wide)
        return files

    def _block(self, snapshot: Snapshot, ordinal: int) -> TableBlock:
        """This rank's rows of a logical table: of replicated rows those that it would own."""
        at = _where(snapshot.tables, ordinal, len(self.table.names))
        ids = snapshot.ids[at]
        run = self.table.slices(ordinal)
        if self.table.replicated and run != (0, SLICES):
            at = _positions(at, len(snapshot.ids))[_inside(ids, self.table.spec.uids[ordinal], run)]
            ids = snapshot.ids[at]
        marks = {name: v[at] for name in ("scores", "stamps") if (v := getattr(snapshot, name)) is not None}
        return TableBlock(ids, snapshot.weights[at], {n: v[at] for n, v in snapshot.slots.items()}, marks)


def _where(tables: Tensor, ordinal: int, count: int) -> slice | Tensor:
    """Where a logical table's rows are: a slice, which copies nothing, where they stand together."""
    if count == 1:
        return slice(None)
    at = (tables == ordinal).nonzero().flatten()
    if len(at) and int(at[-1]) - int(at[0]) + 1 == len(at):
        return slice(int(at[0]), int(at[-1]) + 1)
    return at


def _positions(at: slice | Tensor, count: int) -> Tensor:
    return torch.arange(count)[at]


def _inside(ids: Tensor, uid: int, run: tuple[int, int] | None) -> Tensor:
    found = torch.from_numpy(placement.slices(ids.numpy(), np.array(uid, np.uint32)).astype(np.int64))
    return torch.zeros(len(ids), dtype=torch.bool) if run is None else (found >= run[0]) & (found < run[1])


def full_shot(table: Table, later: bool) -> StorageShot:
    """All rows. later: whether the table may change before they are written; rows in tiers must not move even so."""
    if not later or table.storage.tiers is not None:
        return StorageShot(table, copied=False)
    with table.lock:
        return StorageShot(table, table.storage.snapshots_later())


def _in_one_order(table: Table) -> Iterator[Snapshot]:
    """Parts with the same rows in the same order on all ranks, which keep columns of the same ids, each in tiers of its own."""
    with table.lock:
        marks, uids = table.storage.marks(), np.array(table.spec.uids, np.uint32)
        for begin in range(0, len(marks.ids), AT_ONCE):
            keys = (column[begin : begin + AT_ONCE].to(table.device) for column in (marks.ids, marks.tables))
            found = table.storage.rows_of(*keys, marks=True)
            order = torch.from_numpy(np.lexsort((found.ids.numpy(), uids[found.tables.numpy()])))
            yield _picked(found, order)


def _picked(rows: Snapshot, at: Tensor) -> Snapshot:
    scores, stamps = (None if mark is None else mark[at] for mark in (rows.scores, rows.stamps))
    slots = {name: values[at] for name, values in rows.slots.items()}
    return Snapshot(rows.ids[at], rows.tables[at], rows.weights[at], slots, scores=scores, stamps=stamps)


def delta_shot(table: Table, changed: Mapping[int, Tensor]) -> StorageShot:
    """The rows of ids that may have changed, and which of them have none."""
    parts, erased = [], {}
    with table.lock:
        for ordinal, ids in changed.items():
            ordinals = torch.full((len(ids),), ordinal, dtype=torch.int32)
            keys = ids.to(table.device), ordinals.to(table.device)
            found = table.storage.rows_of(*keys, marks=table.eviction is not None)
            parts.append(found)
            erased[ordinal] = ids[~torch.isin(ids, found.ids)]
    return StorageShot(table, parts, whole=False, erased=erased)


def merged(ranks: list[dict[str, TableEntry]], side_by_side: set[str]) -> dict[str, TableEntry]:
    """One entry for each table. side_by_side: tables of which each rank keeps some columns."""
    found = {}
    for name, first in ranks[0].items():
        entries = [tables[name] for tables in ranks]
        if name not in side_by_side:
            files = [group for entry in entries for group in entry.files]
            found[name] = TableEntry(first.dim, first.dtype, first.slots, first.whole, files)
            continue
        files = [
            [part for group in groups for part in group] for groups in zip(*(e.files for e in entries), strict=True)
        ]
        slots = {slot: sum(entry.slots[slot] for entry in entries) for slot in first.slots}
        found[name] = TableEntry(sum(e.dim for e in entries), first.dtype, slots, first.whole, files)
    return found


def cut_by_columns(tables: Mapping[str, HashTable]) -> set[str]:
    return {name for name, table in tables.items() if table.physical.columns != (0, table.physical.row_dim)}
