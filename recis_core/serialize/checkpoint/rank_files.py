"""A logical table's files as a number of ranks would write them, by one process: each rank's rows, or its columns.

    row        table.item.rank-0.0, table.item.rank-1.0, …     rows by the slice of their ids' hash
    table:2    table.item.rank-2.0, …                          all rows with one rank
    column     [rank-0.0 | rank-1.0], [rank-0.1 | rank-1.1]    blocks of columns side by side, all with the same ids

Sizes: n rows of a block, D dim, W ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from recis_core.exchange.column_blocks import column_blocks
from recis_core.exchange.owners import Owners
from recis_core.options.sharding import Sharding
from recis_core.serialize.checkpoint.table_files import TableFiles, cut
from recis_core.serialize.checkpoint.table_shot import merged
from recis_core.serialize.part_writers import PartWriters
from recis_core.serialize.table_block import TableBlock
from recis_core.serialize.table_entry import TableEntry
from recis_core.table.uid import uid


@dataclass(frozen=True)
class RankLayout:
    """How many ranks a table's files are laid out for, and by which sharding. Replicated rows are written as rows are, once.

    Raises:
      ValueError: ranks is less than 1, or the sharding's owner is none of them.
    """

    ranks: int
    sharding: Sharding = Sharding()

    def __post_init__(self) -> None:
        if type(self.ranks) is not int or self.ranks < 1:
            raise ValueError(f"ranks must be a whole number, at least 1; got {self.ranks!r}.")
        self.sharding.check_world(self.ranks)


class RankFiles:
    """Writes rows of one logical table, given whole. Memory: a file's rows for each rank.

    Args:
      parts, table, dim, dtype, file_bytes: as TableFiles has them.

    Raises:
      ValueError: rows of this dim or dtype cannot be cut into so many blocks of columns.
    """

    def __init__(
        self, parts: PartWriters, table: str, dim: int, dtype: torch.dtype, layout: RankLayout, file_bytes: int
    ) -> None:
        self.table, self.dim, self.ranks = table, dim, layout.ranks
        self.columns = _columns(table, dim, dtype, layout)
        by_rows = Sharding() if layout.sharding.kind in ("column", "replicated") else layout.sharding
        self._owners = Owners([by_rows], [uid(table)], layout.ranks)
        blocks = self.columns or [(0, dim)] * layout.ranks
        self._files = [
            TableFiles(parts, table, end - beg, dtype, rank, file_bytes) for rank, (beg, end) in enumerate(blocks)
        ]

    def add(self, block: TableBlock) -> None:
        """Raises ValueError for a block of other slots or marks than those before, or slots that cannot be cut."""
        if self.columns:
            self._require_wide(block)
            for files, (beg, end) in zip(self._files, self.columns, strict=True):
                files.rows_per_file = files.rows_per_file or self._rows_per_file(block)
                files.add(_columns_of(block, beg, end))
            return
        owners = self._owners.of_ids(block.ids, torch.zeros(len(block.ids), dtype=torch.int32))
        for rank, files in enumerate(self._files):
            files.add(cut(block, owners == rank))

    def end(self) -> None:
        for files in self._files:
            files.end()

    def entry(self) -> TableEntry:
        ranks = [{self.table: files.entry()} for files in self._files]
        return merged(ranks, {self.table} if self.columns else set())[self.table]

    def _rows_per_file(self, block: TableBlock) -> int:
        """Equal for all ranks, so that files of one row stand side by side."""
        row_bytes = 8 + 4 * len(block.marks) + self.dim * 4 * (1 + len(block.slots))
        return max(1, self._files[0].file_bytes // row_bytes)

    def _require_wide(self, block: TableBlock) -> None:
        narrow = [name for name, values in block.slots.items() if values.shape[1] != self.dim]
        if narrow and self.ranks > 1:
            raise ValueError(
                f"table {self.table!r} has slot {narrow[0]!r} of {block.slots[narrow[0]].shape[1]} columns beside rows of "
                f"{self.dim}, which cannot be cut by columns. Use row."
            )


def _columns(table: str, dim: int, dtype: torch.dtype, layout: RankLayout) -> list[tuple[int, int]] | None:
    if layout.sharding.kind != "column":
        return None
    if dtype != torch.float32 and layout.ranks > 1:
        raise ValueError(f"column sharding keeps float32 rows; table {table!r} has {dtype}. Use row.")
    return column_blocks(dim, layout.ranks)


def _columns_of(block: TableBlock, beg: int, end: int) -> TableBlock:
    slots = {name: values[:, beg:end].contiguous() for name, values in block.slots.items()}
    return TableBlock(block.ids, block.rows[:, beg:end].contiguous(), slots, block.marks)
