"""In which rows two tables differ, in bounded memory, whatever the order of their rows.

Sizes: N rows of a block, W numbers of a row: weights, then slots that both tables have.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recis_core.serialize.imports.source import StoredTable
from recis_core.serialize.row_partitions import RowPartitions, partitions_for
from recis_core.serialize.table_block import TableBlock

MEMORY = 1 << 28  # bytes


@dataclass(frozen=True)
class TableDiff:
    """rows: of each. only: ids that one of them alone has. both: ids that both have; differ: those of them whose weights or
    slots differ in a bit. largest: {"rows" or slot: largest absolute difference}, inf where one alone is NaN.
    notes: why something was not compared.
    """

    rows: tuple[int, int]
    only: tuple[int, int]
    both: int
    differ: int
    largest: dict[str, float]
    notes: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        return self.only == (0, 0) and not self.differ and not self.notes

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": list(self.rows), "only": list(self.only), "both": self.both, "differ": self.differ,
            "largest": {name: value if value != float("inf") else "inf" for name, value in self.largest.items()},
            "notes": list(self.notes),
        }  # fmt: skip


def diff_tables(
    one: StoredTable,
    other: StoredTable,
    *,
    memory: int = MEMORY,
    directory: str | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> TableDiff:
    """Compare rows by id. What `memory` does not hold goes to unnamed files, at most the bytes of both tables.

    Args:
      memory: bytes, about. directory: of the files; None: that of temporary files. progress: is told rows that were read.

    Raises:
      CorruptCheckpoint: a file cannot be read.
    """
    parts, notes = _compared(one, other)
    width, dtype = sum(n for _, n in parts), _dtype(one, other)
    record = 8 + width * dtype.itemsize
    count = partitions_for([_rows(one) * record, _rows(other) * record], memory)
    with ExitStack() as ends:
        sides = []
        for table in (one, other):
            sides.append(RowPartitions(count, width, dtype, memory // 4, directory))
            ends.callback(sides[-1].close)
            _fill(sides[-1], table, [name for name, _ in parts], progress)
        return _joined(sides[0], sides[1], parts, notes)


def _compared(one: StoredTable, other: StoredTable) -> tuple[list[tuple[str, int]], tuple[str, ...]]:
    """([("rows", columns), (slot, columns), …], notes)"""
    notes = [f"only {'one' if slot in one.slots else 'the other'} has slot {slot}" for slot in
             sorted(set(one.slots) ^ set(other.slots))]  # fmt: skip
    if one.dtype != other.dtype:
        notes.append(f"rows are {one.dtype} and {other.dtype}")
    if one.dim != other.dim:
        return [], (*notes, f"rows have dim {one.dim} and {other.dim}, and are not compared")
    widths = [_widths(table) for table in (one, other)]
    parts = [("rows", one.dim)]
    for slot in sorted(set(one.slots) & set(other.slots)):
        first, second = (each.get(slot, 0) for each in widths)
        if first == second:
            parts.append((slot, first))
        elif first and second:
            notes.append(f"slot {slot} has {first} and {second} columns, and is not compared")
    return parts, tuple(notes)


def _widths(table: StoredTable) -> dict[str, int]:
    """Columns of slots, from the first block; {} of an empty table."""
    first = next((block for piece in table.pieces for block in piece.blocks(1)), None)
    return {} if first is None else {name: values.shape[1] for name, values in first.slots.items()}


def _dtype(one: StoredTable, other: StoredTable) -> torch.dtype:
    """One that holds all weights of both, and slots, as they are."""
    return torch.float64 if torch.float64 in (one.dtype, other.dtype) else torch.float32


def _rows(table: StoredTable) -> int:
    return table.rows if table.rows is not None else sum(len(ids) for piece in table.pieces for ids in piece.ids())


def _fill(side: RowPartitions, table: StoredTable, names: list[str], progress: Callable[[int], None]) -> None:
    rows = 0
    for block in table.blocks(non_finite="keep"):
        side.add(block.ids, _numbers(block, names))
        rows += len(block.ids)
        progress(rows)


def _numbers(block: TableBlock, names: list[str]) -> Tensor:
    """[N, W]"""
    values = [block.rows if name == "rows" else block.slots[name] for name in names]
    wide = torch.float64 if any(each.dtype == torch.float64 for each in values) else torch.float32
    return torch.cat([torch.zeros(len(block.ids), 0, dtype=wide), *(each.to(wide) for each in values)], 1)


def _joined(
    one: RowPartitions, other: RowPartitions, parts: list[tuple[str, int]], notes: tuple[str, ...]
) -> TableDiff:
    rows, both, differ = [0, 0], 0, 0
    largest = {name: 0.0 for name, _ in parts}
    for partition in range(len(one)):
        (ids, a), (others, b) = one.take(partition), other.take(partition)
        rows = [rows[0] + len(ids), rows[1] + len(others)]
        mine, theirs = torch.isin(ids, others, assume_unique=True), torch.isin(others, ids, assume_unique=True)
        a, b = a[mine], b[theirs]
        unlike = _unlike(a, b)
        both, differ = both + len(a), differ + int(unlike.any(1).sum())
        difference = torch.where(unlike, (a - b).abs(), 0).nan_to_num(nan=float("inf"), posinf=float("inf"))
        for (name, _), values in zip(parts, difference.split([width for _, width in parts], 1), strict=True):
            largest[name] = max(largest[name], float(values.max()) if values.numel() else 0.0)
    return TableDiff((rows[0], rows[1]), (rows[0] - both, rows[1] - both), both, differ, largest, notes)


def _unlike(a: Tensor, b: Tensor) -> Tensor:
    """bool [N, W]: which numbers differ; NaN is like NaN."""
    return (a != b) & ~(a.isnan() & b.isnan())
