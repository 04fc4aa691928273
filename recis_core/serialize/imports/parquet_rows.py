"""A table in Parquet files of ids and vectors, read some rows at a time.

    id: int64 | string      vector: list<float>, fixed_size_list<float>, or a column for each of its numbers

Sizes: n rows of a batch, D dim.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from recis_core.backends.errors import StateMismatch
from recis_core.io.file_format import reading
from recis_core.io.file_systems import arrow_file
from recis_core.io.paths import expand
from recis_core.serialize.imports.raw_ids import column_ids
from recis_core.serialize.imports.source import ROWS, StoredTable, TableSource
from recis_core.serialize.table_block import TableBlock

SUFFIXES = (".parquet", ".pq")
DTYPES = {pa.float16(): torch.float16, pa.float32(): torch.float32, pa.float64(): torch.float64}
Vector = str | Sequence[str]


def parquet_source(
    name: str,
    path: str | os.PathLike[str],
    *,
    id: str = "id",
    vector: Vector = "vector",
    slots: Sequence[str] = (),
    t: int | None = None,
) -> TableSource:
    """One table of Parquet files. Memory holds one row group's pages at a time.

    Args:
      name: of the table.
      path: a file, a folder, a glob or a URL, as readers take them.
      id: the column of ids: integers as they are, text hashed as readers hash it.
      vector: the column of vectors, lists of floats of one length; or one column for each number.
      slots: columns of an optimizer's slots, by the names of slot_group(), as `recis ckpt export --slots` writes them.
      t: steps that the optimizer applied.

    Raises:
      FileNotFoundError: there is no file. StateMismatch: a column is missing, of another kind, or holds nulls or lists of
      unlike lengths; the error names file and row.
    """
    columns = [id, *([vector] if isinstance(vector, str) else vector), *slots]
    files = [_File(file, name, id, vector, tuple(slots)) for file in expand(path, SUFFIXES)]
    for file in files:
        file.require(columns)
    dtypes, dims = {file.dtype() for file in files}, {dim for file in files if (dim := file.dim()) is not None}
    if len(dtypes) > 1 or len(dims) > 1:
        raise StateMismatch(
            f"files of {path} hold vectors of {sorted(map(str, dtypes))}, dims {sorted(dims)}; wanted one form."
        )
    rows = sum(file.rows() for file in files)
    table = StoredTable(name, dims.pop() if dims else 1, dtypes.pop(), files, tuple(slots), rows, t=t)
    return TableSource(os.fspath(path), {name: table})


@dataclass(frozen=True)
class _File:
    """One file, which is a piece of the table."""

    where: str
    table: str
    id: str
    vector: Vector
    slots: tuple[str, ...]

    def require(self, columns: Sequence[str]) -> None:
        there = self._schema().names
        lacking = [column for column in columns if column not in there]
        if lacking:
            raise StateMismatch(f"{self.where} has no column {lacking[0]!r}; it has {', '.join(there)[:300]}.")

    def _schema(self) -> pa.Schema:
        with reading(self.where, "Parquet"), arrow_file(self.where) as file:
            return pq.read_schema(file)

    def rows(self) -> int:
        with reading(self.where, "Parquet"), arrow_file(self.where) as file:
            return int(pq.read_metadata(file).num_rows)

    def dtype(self) -> torch.dtype:
        first = self.vector if isinstance(self.vector, str) else self.vector[0]
        kind = self._schema().field(first).type
        if isinstance(self.vector, str):
            if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
                raise StateMismatch(
                    f"{self.where}: column {first!r} must hold lists of floats; got {kind}. Of a column for each number "
                    "give all: vector=[…]."
                )
            kind = kind.value_type
        if kind not in DTYPES:
            raise StateMismatch(f"{self.where}: column {first!r} must hold floats; got {kind}.")
        return DTYPES[kind]

    def dim(self) -> int | None:
        """Numbers of a vector; None of a file without rows whose lists have no fixed size."""
        if not isinstance(self.vector, str):
            return len(self.vector)
        kind = self._schema().field(self.vector).type
        if pa.types.is_fixed_size_list(kind):
            return int(kind.list_size)
        first = next(self._batches([self.vector], 1), None)
        return None if first is None else self._vectors(first, self.vector, 0).shape[1]

    def ids(self) -> Iterator[Tensor]:
        row = 0
        for batch in self._batches([self.id], ROWS):
            yield self._ids(batch, row)
            row += len(batch)

    def blocks(self, rows: int) -> Iterator[TableBlock]:
        vectors = [self.vector] if isinstance(self.vector, str) else list(self.vector)
        widths: dict[str, int] = {}
        row = 0
        for batch in self._batches([self.id, *vectors, *self.slots], rows):
            lists = {name: self._vectors(batch, name, row, widths.get(name)) for name in self._lists}
            widths = {name: values.shape[1] for name, values in lists.items()}
            slots = {name: lists[name].float() for name in self.slots}
            yield TableBlock(self._ids(batch, row), self._rows(batch, row, lists), slots)
            row += len(batch)

    @property
    def _lists(self) -> list[str]:
        """Columns of lists."""
        return [*([self.vector] if isinstance(self.vector, str) else []), *self.slots]

    def _batches(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        with arrow_file(self.where) as opened:
            with reading(self.where, "Parquet"):
                batches = pq.ParquetFile(opened).iter_batches(rows, columns=columns)
            while True:
                with reading(self.where, "Parquet"):
                    batch = next(batches, None)
                if batch is None:
                    return
                yield batch

    def _ids(self, batch: pa.RecordBatch, row: int) -> Tensor:
        column = batch.column(self.id)
        self._require_whole(column, self.id, row)
        try:
            return column_ids(column)
        except TypeError as error:
            raise StateMismatch(f"{self.where}: column {self.id!r}: {error}") from error

    def _rows(self, batch: pa.RecordBatch, row: int, lists: Mapping[str, Tensor]) -> Tensor:
        if isinstance(self.vector, str):
            return lists[self.vector]
        for name in self.vector:
            self._require_whole(batch.column(name), name, row)
        columns = [batch.column(name).to_numpy(zero_copy_only=False) for name in self.vector]
        return torch.from_numpy(np.stack(columns, 1))

    def _vectors(self, batch: pa.RecordBatch, name: str, row: int, width: int | None = None) -> Tensor:
        """[n, width] of a column of lists; of the first list's width where none is given."""
        column = batch.column(name)
        self._require_whole(column, name, row)
        if not hasattr(column, "flatten"):
            raise StateMismatch(f"{self.where}: column {name!r} must hold lists of floats; got {column.type}.")
        lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
        width = int(lengths[0]) if width is None else width
        unlike = np.flatnonzero(lengths != width)
        if len(unlike):
            raise StateMismatch(
                f"{self.where}: row {row + int(unlike[0])} of column {name!r} has {lengths[unlike[0]]} numbers, where the first "
                f"has {width} (table {self.table!r})."
            )
        values = column.flatten()
        if values.null_count:
            raise StateMismatch(f"{self.where}: column {name!r} has a null inside a list, in rows from {row} on.")
        return torch.tensor(values.to_numpy(zero_copy_only=False)).reshape(len(column), width)

    def _require_whole(self, column: pa.Array, name: str, row: int) -> None:
        if column.null_count:
            first = pc.index(pc.is_null(column), True).as_py()
            raise StateMismatch(
                f"{self.where}: row {row + first} of column {name!r} is null (table {self.table!r}). Fill it, or leave it out."
            )
