"""Rows from files into a table, some at a time.

Sizes: n rows of a block, D dim.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from recis_core.backends import Snapshot
from recis_core.nn.hash_table import HashTable
from recis_core.plain_torch import in_plain_torch
from recis_core.serialize.checkpoint.table_files import check_block, cut
from recis_core.serialize.table_block import TableBlock
from recis_core.table.replacement import Replacement


@in_plain_torch
def load_rows(table: HashTable, blocks: Iterable[TableBlock], *, replace: bool = False) -> int:
    """Write rows into a table, in any tier; a block's memory is needed at a time, and that of `replace`.

    On several ranks every rank is given all blocks and takes the rows that belong on it.

    Args:
      blocks: rows [n, D] in the table's dtype; slots of its optimizer that a block lacks get initial values.
      replace: whether the table loses its other rows. New rows are then prepared aside, and take the place of the old ones
        when the last block was read: after an error the table is as it was. Else each block is taken as it comes: after an
        error the rows of the blocks before are in the table.

    Returns:
      how many rows this rank took.

    Raises:
      ValueError: a block has another form than the table.
    """
    if not replace:
        taken = 0
        for snapshot in _snapshots(table, blocks):
            table.physical.insert(snapshot)
            taken += len(snapshot.ids)
        return taken
    new, taken = Replacement(table.physical, [table.ordinal]), 0
    for snapshot in _snapshots(table, blocks):
        new.add(snapshot)
        taken += len(snapshot.ids)
    new.commit()
    return taken


def _snapshots(table: HashTable, blocks: Iterable[TableBlock]) -> Iterator[Snapshot]:
    for block in blocks:
        check_block(block, table.name, table.dim, table.option.dtype)
        here = table.physical.keeps(block.ids, table.ordinal)
        yield snapshot_of(block if bool(here.all()) else cut(block, here), table.ordinal)


def snapshot_of(block: TableBlock, ordinal: int) -> Snapshot:
    """The block's rows as those of a storage's logical table."""
    ordinals = torch.full((len(block.ids),), ordinal, dtype=torch.int32)
    scores, stamps = block.marks.get("scores"), block.marks.get("stamps")
    return Snapshot(block.ids, ordinals, block.rows, dict(block.slots), scores=scores, stamps=stamps)
