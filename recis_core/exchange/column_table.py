"""A table whose rows are cut by columns: every rank holds a block of columns of all rows.

    row of 8 columns, 3 ranks:   0 1 2 3 | 4 5 | 6 7        blocks are even, so that columns begin as those of a whole row

Keys go to all ranks, which answer with their columns; each rank gets its columns of a gradient.

Sizes: U unique keys, D dim of a whole row, W ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from recis_core.backends import SlotSpec, Snapshot, TableSpec
from recis_core.backends.errors import RecisError
from recis_core.exchange.sharded_table import ShardedTable
from recis_core.table.table import SLICES

if TYPE_CHECKING:
    from recis_core.table.storage import Storage


def column_blocks(dim: int, world: int) -> list[tuple[int, int]]:
    """Each rank's columns [beg, end): even numbers of them, as equal as can be.

    Raises:
      ValueError: there are too few columns.
    """
    pairs = -(-dim // 2)
    if pairs < world:
        raise ValueError(
            f"column sharding over {world} ranks needs embedding_dim of at least {2 * world - 1}; got {dim}."
        )
    ends = [0]
    for rank in range(world):
        ends.append(min(dim, ends[-1] + 2 * (pairs // world + (rank < pairs % world))))
    return [(ends[p], ends[p + 1]) for p in range(world)]


class ColumnTable(ShardedTable):
    """`spec` is of this rank's columns."""

    def __init__(
        self, create: Callable[[TableSpec], Storage], spec: TableSpec, names: tuple[str, ...], *, rank: int, **rest: Any
    ) -> None:
        self.blocks = column_blocks(spec.dim, rest["world"])
        beg, end = self.blocks[rank]
        if spec.dtype != "float32" and rest["world"] > 1:
            raise ValueError(
                f"column sharding keeps float32 rows; got {spec.dtype}, whose rounding counts a row's columns. "
                'Use sharding="row".'
            )
        self.rank, self.whole_dim = rank, spec.dim
        super().__init__(create, replace(spec, dim=end - beg, first_column=beg), names, rank=rank, **rest)
        self.dims = [end - beg for beg, end in self.blocks]

    @property
    def row_dim(self) -> int:
        return self.whole_dim

    @property
    def columns(self) -> tuple[int, int]:
        return self.blocks[self.rank]

    def shares(self, values: Tensor) -> list[Tensor]:
        return [values[:, beg:end].contiguous() for beg, end in self.blocks]

    def slices(self, ordinal: int) -> tuple[int, int] | None:
        return 0, SLICES

    def keeps(self, ids: Tensor, ordinal: int) -> Tensor:
        return torch.ones(len(ids), dtype=torch.bool)

    def attach(self, optimizer: object, slots: tuple[SlotSpec, ...]) -> None:
        """Slots as wide as a row are cut as rows are.

        Raises:
          RecisError: a slot sums over a row's columns, which no rank has all of.
        """
        whole = [s.name for s in slots if s.width != self.whole_dim]
        if whole:
            raise RecisError(
                f"{type(optimizer).__name__} keeps {whole} per row, over all of its columns; "
                f'tables {", ".join(self.names)} are cut by columns. Use sharding="row", or SparseAdagrad.'
            )
        super().attach(optimizer, self._cut_slots(slots))

    def require_free(self, optimizer: object, slots: tuple[SlotSpec, ...]) -> set[str]:
        return super().require_free(optimizer, self._cut_slots(slots))

    def _cut_slots(self, slots: tuple[SlotSpec, ...]) -> tuple[SlotSpec, ...]:
        return tuple(replace(s, width=self.spec.dim) if s.width == self.whole_dim else s for s in slots)

    def incoming(self, snapshot: Snapshot) -> Snapshot:
        """Rows may be whole, or cut to this rank's columns already."""
        slots = {name: self.cut(values) for name, values in snapshot.slots.items()}
        return super().incoming(replace(snapshot, weights=self.cut(snapshot.weights), slots=slots))

    def cut(self, rows: Tensor) -> Tensor:
        beg, end = self.columns
        return rows[:, beg:end].contiguous() if rows.shape[1] == self.whole_dim else rows
