"""Rows from files into tables, some at a time: into all of them, on all ranks, or into none.

Sizes: n rows of a block, D dim.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from recis_core.backends import Snapshot
from recis_core.nn.hash_table import HashTable
from recis_core.plain_torch import in_plain_torch
from recis_core.serialize.checkpoint.table_files import check_block, cut
from recis_core.serialize.shared_state import failing_together
from recis_core.serialize.table_block import TableBlock
from recis_core.table.replacement import Replacement
from recis_core.table.table import Table
from recis_core.table.undo import Undo
from recis_core.uninterrupted import uninterrupted


@in_plain_torch
def load_rows(table: HashTable, blocks: Iterable[TableBlock], *, replace: bool = False) -> int:
    """Write rows into a table, in any tier: all of them, or none. Collective where ranks share the table.

    A block is in memory at a time, and beside it 12 bytes a row and up to 64 MiB of rows that others are written over; with
    `replace` the new rows.

    On several ranks every rank is given all blocks and takes the rows that belong on it.

    Args:
      blocks: rows [n, D] in the table's dtype; slots of its optimizer that a block lacks get initial values.
      replace: whether the table loses its other rows. New rows are then prepared aside, and take the place of the old ones
        when the last block was read. Else each block is written as it comes, and what it wrote over is kept until the last
        one is in: after an error or an interrupt the table has the rows, slots and marks that it had.

    Returns:
      how many rows this rank took.

    Raises:
      ValueError: a block has another form than the table. ExchangeMismatch: another rank raised.
    """
    with loading([table], replace=replace) as together:
        return together.take(table, blocks)


@contextmanager
def loading(tables: Sequence[HashTable], *, replace: bool) -> Iterator[Loading]:
    """Rows that are taken inside are in the tables when the block ends, on all ranks; if it raises on one, in none."""
    mine = Loading(tables, replace)
    try:
        with failing_together(next((table.physical.exchange for table in tables), None)):
            yield mine
        mine.commit()
    except BaseException:
        mine.undo()
        raise
    finally:
        mine.close()


class Loading:
    """New rows of several tables. replace: whether these are their only ones then."""

    def __init__(self, tables: Sequence[HashTable], replace: bool) -> None:
        ordinals: dict[Table, list[int]] = {}
        for table in tables:
            ordinals.setdefault(table.physical, []).append(table.ordinal)
        self._new = {each: Replacement(each, mine) for each, mine in ordinals.items()} if replace else {}
        self._undo = {} if replace else {each: Undo(each) for each in ordinals}

    def take(self, table: HashTable, blocks: Iterable[TableBlock]) -> int:
        """How many rows this rank took. Raises ValueError: a block has another form than the table."""
        taken = 0
        for snapshot in _snapshots(table, blocks):
            if table.physical in self._new:
                self._new[table.physical].add(snapshot)
            else:
                self._undo[table.physical].note(snapshot)
                table.physical.insert(snapshot)
            taken += len(snapshot.ids)
        return taken

    def commit(self) -> None:
        with uninterrupted():
            for each in self._new.values():
                each.commit()

    def undo(self) -> None:
        """What was written is as it was before; what was not put in place goes."""
        with uninterrupted():
            for each in self._undo.values():
                each.undo()

    def close(self) -> None:
        for each in self._undo.values():
            each.close()


def _snapshots(table: HashTable, blocks: Iterable[TableBlock]) -> Iterator[Snapshot]:
    for block in blocks:
        check_block(block, table.name, table.dim, table.option.dtype)
        yield snapshot_of(kept_here(table, block), table.ordinal)


def kept_here(table: HashTable, block: TableBlock) -> TableBlock:
    """The block's rows that belong on this rank."""
    if table.physical.world == 1:
        return block
    here = table.physical.keeps(block.ids, table.ordinal)
    return block if bool(here.all()) else cut(block, here)


def snapshot_of(block: TableBlock, ordinal: int) -> Snapshot:
    """The block's rows as those of a storage's logical table."""
    ordinals = torch.from_numpy(np.full(len(block.ids), ordinal, np.int32))
    scores, stamps = block.marks.get("scores"), block.marks.get("stamps")
    return Snapshot(block.ids, ordinals, block.rows, dict(block.slots), scores=scores, stamps=stamps)
