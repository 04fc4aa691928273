"""Tables of another format, as blocks: what every importer gives.

    source.tables["item"].blocks()      TableBlocks of at most 65,536 rows, each id once, no NaN

A table lies in pieces (a shard's part, a row group, a slice), which are read one at a time.

Sizes: N rows of a block, D dim.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor

from recis_core.backends.errors import StateMismatch
from recis_core.serialize.checkpoint.table_files import cut
from recis_core.serialize.imports.repeated_ids import Repeated, repeated_ids
from recis_core.serialize.table_block import TableBlock

LOG = logging.getLogger("recis_core.serialize")
ROWS = 65_536  # of a block

NonFinite = Literal["refuse", "skip", "keep"]


class Piece(Protocol):
    """Rows that lie together."""

    @property
    def where(self) -> str:
        """The file, and the place in it, for errors."""
        ...

    def ids(self) -> Iterator[Tensor]:
        """int64 [N] of all its rows, in order."""
        ...

    def blocks(self, rows: int) -> Iterator[TableBlock]:
        """All its rows in the order of `ids`, at most `rows` at a time."""
        ...


@dataclass(frozen=True)
class StoredTable:
    """One logical table of a source.

    dtype: of its rows. slots: names of the optimizer's. rows: how many, with repeated ids; None where that takes reading them.
    distinct: whether no id can be there twice. t: steps that its optimizer has applied, if that is known. ignored: arrays
    beside the rows that no optimizer here has.
    """

    name: str
    dim: int
    dtype: torch.dtype
    pieces: Sequence[Piece]
    slots: tuple[str, ...] = ()
    rows: int | None = None
    distinct: bool = False
    t: int | None = None
    ignored: tuple[str, ...] = ()

    def blocks(self, rows: int = ROWS, *, non_finite: NonFinite = "refuse") -> Iterator[TableBlock]:
        """Each id once, with the first of its rows. Memory holds one block, and 24 bytes of at most 16M ids beside.

        Args:
          non_finite: what becomes of a row with NaN or inf in its weights or slots: "refuse" raises, "skip" leaves the row
            out, so that its id begins anew, "keep" gives it as it is.

        Raises:
          StateMismatch: a row is not finite; the error names file, table, id and row.
          CorruptCheckpoint: a file cannot be read.
        """
        if non_finite not in get_args(NonFinite):
            raise ValueError(f"non_finite must be {', '.join(get_args(NonFinite))}; got {non_finite!r}.")
        repeated = Repeated.none() if self.distinct else repeated_ids([piece.ids for piece in self.pieces])
        if repeated.count:
            LOG.warning(
                "table %s: %d rows have the id of an earlier row; the first is taken.", self.name, repeated.count
            )
        return self._blocks(rows, non_finite, repeated)

    def _blocks(self, rows: int, non_finite: NonFinite, repeated: Repeated) -> Iterator[TableBlock]:
        at = 0  # rows of all pieces before the block
        for piece in self.pieces:
            first = at
            for block in piece.blocks(rows):
                keep = repeated.others(at, len(block.ids))
                if non_finite != "keep":
                    keep &= self._finite(block, piece, at - first, non_finite)
                at += len(block.ids)
                yield block if bool(keep.all()) else cut(block, keep)

    def _finite(self, block: TableBlock, piece: Piece, row: int, non_finite: NonFinite) -> Tensor:
        """bool [N]. row: that of the block's first row in its piece."""
        fine = torch.ones(len(block.ids), dtype=torch.bool)
        for values in (block.rows, *block.slots.values()):
            fine &= values.isfinite().reshape(len(values), -1).all(1)
        if non_finite == "refuse" and not bool(fine.all()):
            wrong = int((~fine).nonzero()[0])
            raise StateMismatch(
                f"{piece.where}: row {row + wrong} of table {self.name!r}, id {int(block.ids[wrong])}, holds NaN or inf. "
                'Give non_finite="skip" to leave such rows out, so that their ids begin anew, or "keep".'
            )
        return fine


@dataclass(frozen=True)
class TableSource:
    """What an importer has found: tables by name, and how to read the dense side.

    name: of the file or directory, for errors. step: the training step it was saved at, if that is known.
    dense: reads {name: tensor} of parameters and buffers when it is called. dense_optimizer: reads the state_dict of the
    dense side's optimizer; {} where there is none.
    """

    name: str
    tables: Mapping[str, StoredTable]
    step: int | None = None
    dense: Callable[[], dict[str, Tensor]] = field(default=dict)
    dense_optimizer: Callable[[], dict[str, Any]] = field(default=dict)

    def only(self, names: Mapping[str, str]) -> TableSource:
        """The source with the tables {new name: name here} alone."""
        tables = {new: replace(self.tables[name], name=new) for new, name in names.items()}
        return replace(self, tables=tables)
