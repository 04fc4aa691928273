"""Which columns of whole rows each rank has: all of them, or, where a table is cut by columns, a block.

    row of 8 columns, 3 ranks:   0 1 2 3 | 4 5 | 6 7        blocks are even, so that columns begin as those of a whole row

Keys of a table that is cut go to all ranks, which answer with their columns; each rank gets its columns of a gradient.

Sizes: n rows, U unique keys, D dim of a whole row, W ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from recis_core.backends import SlotSpec, TableSpec
from recis_core.backends.errors import RecisError


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


class ColumnBlocks:
    """Of a storage of whole rows `spec`.

    Raises:
      ValueError: rows cannot be cut over so many ranks, or not in this dtype.
    """

    def __init__(self, spec: TableSpec, world: int, rank: int, *, cuts: bool) -> None:
        if cuts and spec.dtype != "float32" and world > 1:
            raise ValueError(
                f"column sharding keeps float32 rows; got {spec.dtype}, whose rounding counts a row's columns. "
                'Use sharding="row".'
            )
        self.dim, self.cuts = spec.dim, cuts
        self.blocks = column_blocks(spec.dim, world) if cuts else [(0, spec.dim)] * world
        self.here = beg, end = self.blocks[rank]
        self.spec = replace(spec, dim=end - beg, first_column=beg) if cuts else spec
        self.dims = [end - beg for beg, end in self.blocks]

    def cut(self, rows: Tensor) -> Tensor:
        """This rank's columns of whole rows [n, D], or of rows that are cut already."""
        beg, end = self.here
        return rows[:, beg:end].contiguous() if self.cuts and rows.shape[1] == self.dim else rows

    def shares(self, values: Tensor) -> list[Tensor]:
        """Gradients of whole rows [U, D], cut for owners: one for all, or one for each rank."""
        return [values[:, beg:end].contiguous() for beg, end in self.blocks] if self.cuts else [values]

    def cut_slots(self, slots: tuple[SlotSpec, ...], optimizer: object, names: Sequence[str]) -> tuple[SlotSpec, ...]:
        """Slots as wide as a row are cut as rows are.

        Raises:
          RecisError: a slot sums over a row's columns, which no rank has all of.
        """
        whole = [s.name for s in slots if s.width != self.dim]
        if self.cuts and whole:
            raise RecisError(
                f"{type(optimizer).__name__} keeps {whole} per row, over all of its columns; "
                f'tables {", ".join(names)} are cut by columns. Use sharding="row", or SparseAdagrad.'
            )
        return tuple(replace(s, width=self.spec.dim) for s in slots) if self.cuts else slots
