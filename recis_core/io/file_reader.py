"""Reads parts of files, keeps the rows that a filter keeps, and makes tensors of their columns.

Sizes: n rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from recis_core.backends.errors import RecisError
from recis_core.io.batch_rows import Batch
from recis_core.io.column_plan import ColumnPlans
from recis_core.io.feature import Feature, Use
from recis_core.io.file_format import ParquetFormat
from recis_core.io.file_set import FileSet
from recis_core.io.kinds import leaf_type
from recis_core.io.leaves import decoded, one_array
from recis_core.io.list_offsets import ListOffsets
from recis_core.io.pieces import read_piece
from recis_core.io.roles import Ids
from recis_core.io.row_order import Part
from recis_core.io.rows import Numbers, RowError, Rows
from recis_core.io.scan_filter import ScanFilter
from recis_core.io.text_columns import coded_texts, reads_text, text_ids_of
from recis_core.io.wrapped import say_if_wrapped

CHANGED = (
    "{} has {} rows than when it was added, {} instead of {}: it was rewritten while it is read, or it is damaged."
)


def require_rows(path: str, found: int, wanted: int) -> None:
    """Raises RecisError where a file, or a piece of it, has other rows than before."""
    if found != wanted:
        raise RecisError(CHANGED.format(path, "fewer" if found < wanted else "more", found, wanted))


@dataclass(frozen=True)
class Prepared:
    """`source` rows of the order. rows: those of them that are kept, prepared; kept: their numbers, None for all."""

    source: int
    rows: Rows
    kept: np.ndarray | None = None


@dataclass(frozen=True)
class Read:
    """`source` rows of the order. batch: the `rows` rows of them that are kept; kept: their numbers, None for all."""

    source: int
    rows: int
    batch: Batch
    kept: np.ndarray | None = None


def _hashed(use: Use) -> bool:
    """Whether ids are the hashes of each value's text."""
    return isinstance(use.role, Ids) and use.role.text


class FileReader:
    """Reads features in one pass over files. A prepared table has one column for each use, named by its number."""

    def __init__(
        self,
        files: FileSet,
        features: tuple[Feature, ...],
        targets: dict[str, list[pa.DataType]],
        chosen: ScanFilter | None = None,
    ) -> None:
        self._files, self._features, self._filter = files, features, chosen
        types = [target for feature in features for target in targets[feature.name]]
        self._uses = list(zip((use for feature in features for use in feature.uses), types, strict=True))
        self._names = [str(number) for number in range(len(self._uses))]
        self._plans = ColumnPlans(self._uses)

    def begin_thread(self) -> None:
        """Parts are read on threads; those share the cores already, so that loops inside start no more."""
        if reads_text(self._files.columns, [use for use, _ in self._uses]):
            from recis_core.backends.numba_backend.compiled import on_one_thread  # loads numba

            on_one_thread()

    def read(self, part: Part) -> Read:
        return self.converted(self.prepared(part))

    def prepared(self, part: Part) -> Prepared:
        """The part's rows that are kept, prepared. A piece that the filter cannot match is not read.

        Raises:
          ValueError: the file or a value cannot be read. RecisError: the piece has another number of rows than before.
        """
        if self._filter is not None and part.piece not in self._filter.pieces(self._files, part.path):
            return Prepared(len(part), self._nothing(part.path), np.zeros(0, np.int64))
        table = self._piece(part.path, part.piece)
        require_rows(part.path, len(table), part.rows)
        kept, order = None, part.in_piece
        if self._filter is not None:
            kept = self._filter.kept(_rows(table.select(self._filter.columns), order), part.path)
            order = np.asarray(order)[kept]
        rows = Rows(_rows(table, order), ((part.path, _numbers(part.start, order)),))
        return Prepared(len(part), self._prepare(rows), kept)

    def _nothing(self, path: str) -> Rows:
        empty = {name: pa.array([], target) for name, (_, target) in zip(self._names, self._uses, strict=True)}
        return Rows(pa.table(empty), ((path, range(0)),))

    def _piece(self, path: str, piece: int) -> pa.Table:
        """The columns in use, with those of partition folders."""
        form, wanted = self._files.forms[path], self._wanted[path]
        table = read_piece(form, path, piece, wanted)
        for name in self._files.folders[path]:
            if name not in table.column_names:
                table = table.append_column(name, self._files.folder_column(path, name, len(table)))
        return table

    @cached_property
    def _wanted(self) -> dict[str, pa.Schema]:
        return {path: self._schema(path) for path in self._files.rows}

    def _schema(self, path: str) -> pa.Schema:
        """The columns to read from a file; a column that is hashed as text is read as text."""
        held = self._files.schemas[path]
        texts = {use.column for use, _ in self._uses if _hashed(use)}
        filtered = [] if self._filter is None else self._filter.columns
        names = dict.fromkeys([use.column for use, _ in self._uses] + filtered)
        there = [name for name in names if name in held.names]
        schema = pa.schema([held.field(n).with_type(pa.string()) if n in texts else held.field(n) for n in there])
        if not isinstance(self._files.forms[path], ParquetFormat):
            return schema
        return coded_texts(schema, [use for use, _ in self._uses if use.column not in filtered])

    def _prepare(self, rows: Rows) -> Rows:
        """One column for each use, of the use's target type.

        Raises:
          ValueError: a value cannot be read, with file, column and row.
        """
        plan = self._plans.of(rows.table.schema)
        arrays = {n: rows.table[self._uses[n][0].column] for n in (*plan.texts, *plan.ready)}
        for n, ids in zip(plan.texts, text_ids_of([arrays[n] for n in plan.texts]), strict=True):
            arrays[n] = as_type(ids, self._uses[n][1])
        columns = [
            arrays[n] if n in arrays else self._prepared(rows, use, target)
            for n, (use, target) in enumerate(self._uses)
        ]
        return Rows(pa.Table.from_arrays(columns, self._names), rows.origins)

    def _prepared(self, rows: Rows, use: Use, target: pa.DataType) -> pa.Array:
        try:
            return self._as_target(rows, use, target)
        except pa.ArrowException as error:
            path, kind = rows.origins[0][0], rows.table.schema.field(use.column).type
            raise ValueError(f"{path}, column {use.column!r} of {kind} cannot be read: {error}.") from None

    def _as_target(self, rows: Rows, use: Use, target: pa.DataType) -> pa.Array:
        array = decoded(one_array(rows.table[use.column]))
        if pa.types.is_null(array.type):  # in other files the column may hold lists
            array = array.cast(target)
        if leaf_type(target) == pa.int64() and not _hashed(use):
            say_if_wrapped(array, rows.place, use.column)
        try:
            return as_type(use.role.prepare(array, leaf_type(target)), target)
        except RowError as error:
            raise error.at(rows.place, use.column) from None

    def converted(self, part: Prepared) -> Read:
        """Prepared columns as tensors, that share their memory where they can."""
        batch, number, rows, offsets = {}, 0, part.rows, ListOffsets()
        for feature in self._features:
            arrays = [one_array(rows.table.column(number + n)) for n in range(len(feature.uses))]
            try:
                batch[feature.name] = feature.convert(offsets, *arrays)
            except RowError as error:
                raise error.at(rows.place, feature.name) from None
            number += len(arrays)
        return Read(part.source, len(rows), batch, part.kept)


def as_type(array: pa.Array, target: pa.DataType) -> pa.Array:
    return array if array.type == target else array.cast(target)


def _rows(table: pa.Table, order: Numbers) -> pa.Table:
    """Rows of a table. To take some, columns but dictionaries are decoded, for Arrow cannot take rows of all types."""
    if isinstance(order, range):
        return table.slice(order.start, len(order))
    chosen = pa.array(order)
    return pa.table({name: _decoded(table[name]).take(chosen) for name in table.column_names})


def _decoded(column: pa.ChunkedArray) -> pa.Array:
    return one_array(column) if pa.types.is_dictionary(column.type) else decoded(one_array(column))


def _numbers(start: int, order: Numbers) -> Numbers:
    return range(start + order.start, start + order.stop) if isinstance(order, range) else start + order
