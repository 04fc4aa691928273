"""One rank's files of one logical table: blocks of rows are cut into files of bounded size.

Sizes: n rows of a block, D dim.
"""

from __future__ import annotations

from urllib.parse import quote

import torch
import xxhash
from torch import Tensor

from recis_core.serialize.part_file import NAMES
from recis_core.serialize.part_writers import PartWriters
from recis_core.serialize.table_block import TableBlock
from recis_core.serialize.table_entry import TableEntry
from recis_core.serialize.tree import split_tensors

# Bytes of one file at most. Reading a table holds three files in memory, writing part_writers.AT_ONCE more than one.
FILE_BYTES = 1 << 25
NAME = 120  # characters of a table's name in names of files
NO_IDS = torch.zeros(0, dtype=torch.int64)


def stem_of(table: str) -> str:
    """How names of a table's parts begin; any table's name becomes that of a file, different names different ones."""
    safe = quote(table, safe="").replace("%", "=")
    return f"table.{safe}" if len(safe) <= NAME else f"table.{safe[:NAME]}.{xxhash.xxh3_64_hexdigest(table.encode())}"


class TableFiles:
    """Writes rows of one logical table.

    Args:
      parts: write the files. rank: None where one process writes all.
      dim: columns of these rows. dtype: of the rows. file_bytes: of a file at most.

    Blocks are not checked: see check_block.
    """

    def __init__(
        self, parts: PartWriters, table: str, dim: int, dtype: torch.dtype, rank: int | None = None,
        file_bytes: int = FILE_BYTES,
    ) -> None:  # fmt: skip
        self.parts, self.table, self.dim, self.dtype = parts, table, dim, dtype
        self.stem = stem_of(table) + ("" if rank is None else f".rank-{rank}")
        self.file_bytes, self.rows_per_file = file_bytes, 0
        self.slots: dict[str, int] | None = None
        self.marks: set[str] | None = None
        self.files: list[str] = []
        self._held: list[TableBlock] = []
        self._rows = 0

    def add(self, block: TableBlock) -> None:
        """Raises ValueError for a block of other slots or marks than those before."""
        self._check(block)
        self._held.append(block)
        self._rows += len(block.ids)
        while self._rows >= self.rows_per_file:
            self._write(self.rows_per_file)

    def end(self, erased: Tensor = NO_IDS) -> None:
        """Write what is held. erased: ids of a delta that lost their rows."""
        if self._rows or len(erased):
            self._write(self._rows, erased)

    def entry(self, *, whole: bool = True) -> TableEntry:
        return TableEntry(self.dim, NAMES[self.dtype], dict(self.slots or {}), whole, [[name] for name in self.files])

    def _check(self, block: TableBlock) -> None:
        slots = {name: int(values.shape[1]) for name, values in block.slots.items()}
        if self.slots is None:
            self.slots = slots
        if self.marks is None:
            self.marks = set(block.marks)
        if slots != self.slots or set(block.marks) != self.marks:
            raise ValueError(
                f"all blocks of table {self.table!r} must have the same slots and marks: {self.slots}, "
                f"{sorted(self.marks)}; got {slots}, {sorted(block.marks)}."
            )
        if not self.rows_per_file:
            row_bytes = 8 + self.dim * self.dtype.itemsize + 4 * (sum(slots.values()) + len(self.marks))
            self.rows_per_file = max(1, self.file_bytes // row_bytes)

    def _empty(self) -> TableBlock:
        slots = {name: torch.zeros(0, width) for name, width in (self.slots or {}).items()}
        return TableBlock(NO_IDS, torch.zeros(0, self.dim, dtype=self.dtype), slots)

    def _write(self, rows: int, erased: Tensor = NO_IDS) -> None:
        whole = joined(self._held) if self._held else self._empty()
        self._rows -= rows
        self._held = [cut(whole, slice(rows, None))] if self._rows else []  # joining with nothing would copy all
        block, name = cut(whole, slice(rows)), f"{self.stem}.{len(self.files)}"
        tree = {"ids": block.ids, "rows": block.rows, "slots": block.slots, "marks": block.marks, "erased": erased}
        tensors: dict[str, Tensor] = {}
        split = split_tensors(tree, tensors, depth=3)
        self.parts.write(name, split, tensors)
        self.files.append(name)


def check_block(block: TableBlock, table: str, dim: int, dtype: torch.dtype) -> None:
    """Raises TypeError or ValueError unless the block is one of a table of this dim and dtype, with distinct ids."""
    n = len(block.ids)
    if block.ids.dtype != torch.int64 or block.ids.dim() != 1 or len(block.ids.unique()) != n:
        raise ValueError(
            f"ids of table {table!r} must be distinct int64 [n]; got {block.ids.dtype} {list(block.ids.shape)}."
        )
    wanted: list[tuple[str, Tensor, torch.dtype, tuple[int, ...]]] = [("rows", block.rows, dtype, (n, dim))]
    wanted += [(f"slot {k!r}", v, torch.float32, (n, *v.shape[1:2])) for k, v in block.slots.items()]
    wanted += [(f"mark {k!r}", v, torch.int32, (n,)) for k, v in block.marks.items()]
    for what, found, kind, shape in wanted:
        if found.dtype != kind or tuple(found.shape) != shape or (what.startswith("slot") and found.dim() != 2):
            raise ValueError(
                f"{what} of table {table!r} must be {kind} {list(shape)}; got {found.dtype} {list(found.shape)}."
            )


def cut(block: TableBlock, at: slice | Tensor) -> TableBlock:
    """Some of a block's rows, by slice, bool mask or position."""
    slots, marks = ({name: values[at] for name, values in each.items()} for each in (block.slots, block.marks))
    return TableBlock(block.ids[at], block.rows[at], slots, marks)


def joined(blocks: list[TableBlock]) -> TableBlock:
    """One block of all rows; all blocks have the same slots and marks."""
    if len(blocks) == 1:
        return blocks[0]
    first = blocks[0]
    return TableBlock(
        torch.cat([block.ids for block in blocks]),
        torch.cat([block.rows for block in blocks]),
        {name: torch.cat([block.slots[name] for block in blocks]) for name in first.slots},
        {name: torch.cat([block.marks[name] for block in blocks]) for name in first.marks},
    )


def side_by_side(blocks: list[TableBlock]) -> TableBlock:
    """Whole rows from blocks of their columns, which have the same ids in the same order."""
    if len(blocks) == 1:
        return blocks[0]
    first = blocks[0]
    slots = {name: torch.cat([block.slots[name] for block in blocks], 1) for name in first.slots}
    return TableBlock(first.ids, torch.cat([block.rows for block in blocks], 1), slots, first.marks)
