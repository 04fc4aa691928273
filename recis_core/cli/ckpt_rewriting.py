"""Tables of a source into a new checkpoint, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch

from recis_core.cli.screen import rows_shown
from recis_core.serialize import CheckpointWriter, RankLayout, TableBlock, TableSource
from recis_core.serialize.imports.source import NonFinite, Piece
from recis_core.serialize.places import steps_in
from recis_core.serialize.store_path import place_of

KEPT = (torch.float32, torch.bfloat16)  # dtypes that tables have


@dataclass(frozen=True)
class Rows:
    """A table to write. layout: as CheckpointWriter.table has it."""

    name: str
    dim: int
    dtype: torch.dtype
    blocks: Iterable[TableBlock]
    layout: RankLayout | None = None


def as_ours(source: TableSource, non_finite: NonFinite = "keep") -> Iterator[Rows]:
    """A source's tables in dtypes that tables here have: what is neither float32 nor bfloat16 becomes float32."""
    for name, table in source.tables.items():
        dtype = table.dtype if table.dtype in KEPT else torch.float32
        blocks = table.blocks(non_finite=non_finite)
        yield Rows(name, table.dim, dtype, _cast(blocks, dtype))


def without_slots(source: TableSource) -> TableSource:
    """The source's rows alone, as those of an optimizer that has not begun."""
    bare = {
        name: replace(table, slots=(), t=None, pieces=[_Bare(piece) for piece in table.pieces])
        for name, table in source.tables.items()
    }
    return replace(source, tables=bare, dense_optimizer=dict)


@dataclass(frozen=True)
class _Bare:
    """A piece's rows without slots."""

    piece: Piece

    @property
    def where(self) -> str:
        return self.piece.where

    def ids(self) -> Iterator[torch.Tensor]:
        return self.piece.ids()

    def blocks(self, rows: int) -> Iterator[TableBlock]:
        for block in self.piece.blocks(rows):
            yield replace(block, slots={})


def _cast(blocks: Iterable[TableBlock], dtype: torch.dtype) -> Iterator[TableBlock]:
    for block in blocks:
        yield replace(block, rows=block.rows.to(dtype))


def write_tables(writer: CheckpointWriter, tables: Iterable[Rows], *, quiet: bool) -> dict[str, int]:
    """{table: rows written}; shows them as they go, unless quiet."""
    written: dict[str, int] = {}
    with rows_shown("writing", not quiet) as show_rows:

        def told(blocks: Iterable[TableBlock]) -> Iterator[TableBlock]:
            rows = sum(written.values())
            for block in blocks:
                yield block
                rows += len(block.ids)
                show_rows(rows)

        for table in tables:
            written[table.name] = writer.table(
                table.name, told(table.blocks), dim=table.dim, dtype=table.dtype, layout=table.layout
            )
    return written


def check_out(out: str, step: int, overwrite: bool) -> None:
    """Raises ValueError where the directory has a checkpoint of that step that may not be replaced."""
    if not overwrite and step in steps_in(place_of(out)):
        raise ValueError(f"{out} has a checkpoint of step {step}. Give another --step or directory, or --overwrite.")
