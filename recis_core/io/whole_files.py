"""Columns of files as they are, structs and maps too, of one type over all files: what a copy is made of."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from recis_core.io.file_format import reading
from recis_core.io.file_set import FileSet
from recis_core.io.formats import SUFFIXES, format_of_all
from recis_core.io.kinds import kind_of, together
from recis_core.io.paths import expand
from recis_core.io.pieces import read_piece
from recis_core.io.plain_arrays import plain, plain_array


@dataclass(frozen=True)
class WholeFiles:
    """files: rows, formats and partition folders. schema: one type for each column, plain (see `plain`)."""

    files: FileSet
    held: dict[str, pa.Schema]
    schema: pa.Schema

    def tables(self) -> Iterator[pa.Table]:
        """All rows in order, piece by piece, in `schema`. Raises ValueError, naming file, column and piece."""
        for _, table in self.named_tables():
            yield table

    def named_tables(self) -> Iterator[tuple[str, pa.Table]]:
        """`tables`, each with its file."""
        for file, rows in self.files.rows.items():
            form = self.files.forms[file]
            with reading(file, form.name):
                pieces = len(form.piece_rows(file, rows))
            for piece in range(pieces):
                yield file, self._piece(file, piece)

    def _piece(self, file: str, piece: int) -> pa.Table:
        form, held = self.files.forms[file], self.held[file]
        wanted = pa.schema([held.field(name) for name in self.schema.names if name in held.names])
        table = read_piece(form, file, piece, wanted)
        return pa.table([self._column(file, field, table) for field in self.schema], schema=self.schema)

    def _column(self, file: str, field: pa.Field, table: pa.Table) -> pa.ChunkedArray:
        if field.name not in table.column_names:
            return pa.chunked_array([self.files.folder_column(file, field.name, len(table)).cast(field.type)])
        return as_type(table[field.name], field, file)


def as_type(column: pa.ChunkedArray, field: pa.Field, file: str) -> pa.ChunkedArray:
    """Raises ValueError that names file and column where a value does not fit the type."""
    try:
        return cast(column, field.type)
    except pa.ArrowException as error:
        raise ValueError(f"{file}, column {field.name!r} of {column.type} cannot be {field.type}: {error}.") from None


def cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Arrow does not cast out of all types, and out of list views wrongly: values are made plain first."""
    if column.type == kind:
        return column
    if column.type != plain(column.type):
        column = pa.chunked_array([plain_array(chunk) for chunk in column.chunks], plain(column.type))
    return column.cast(kind)


def open_whole(path: str | os.PathLike[str], columns: Sequence[str] = ()) -> WholeFiles:
    """The files that a path, URL, glob or folder names; `columns`, or all.

    Raises:
      FileNotFoundError: there are none. ValueError: one is damaged, or lacks a column. TypeError: a column has types in two
      files that do not go together.
    """
    form = format_of_all(list(expand(path, SUFFIXES)))
    files = FileSet().added(path, form)
    held = {}
    for file in files.rows:
        with reading(file, form.name):
            held[file] = form.describe(file)[0]
    names = list(columns) or list(_columns(files, held, next(iter(held))))
    for file in held:
        _require(file, names, _columns(files, held, file), exact=not columns)
    types = {name: [_columns(files, held, file)[name] for file in held] for name in names}
    return WholeFiles(
        files, held, pa.schema([(name, _common(name, kinds, list(held))) for name, kinds in types.items()])
    )


def _columns(files: FileSet, held: dict[str, pa.Schema], file: str) -> dict[str, pa.DataType]:
    own = {field.name: field.type for field in held[file]}
    folders = {name: kind for name, kind in files.columns_of(file).items() if name in files.folders[file]}
    return own | {name: kind for name, kind in folders.items() if name not in own}


def _require(file: str, names: list[str], there: dict[str, pa.DataType], exact: bool) -> None:
    for name in names:
        if name not in there:
            raise ValueError(f"{file} has no column {name!r}; it has {', '.join(there)}. Say which columns: --columns.")
    more = [repr(name) for name in there if name not in names]
    if exact and more:
        raise ValueError(f"{file} has column {', '.join(more)}, which other files lack. Say which columns: --columns.")


def _common(name: str, kinds: list[pa.DataType], files: list[str]) -> pa.DataType:
    """One type that holds the values of all."""
    found = plain(kinds[0])
    for kind, file in zip(kinds[1:], files[1:], strict=True):
        both = _both(found, plain(kind))
        if both is None:
            raise TypeError(
                f"column {name!r} is {kinds[0]} in {files[0]} and {kind} in {file}, which do not go together. Leave it out "
                "(--columns), or convert the files apart."
            )
        found = both
    return found


def _both(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    if a == b:
        return a
    mine, theirs = kind_of(a), kind_of(b)
    if mine is not None and theirs is not None and together([mine, theirs]) is None:
        return None
    if {"boolean", "integer"} == {kind.values for kind in (mine, theirs) if kind}:
        return b if pa.types.is_boolean(a) else a if pa.types.is_boolean(b) else None
    fields = [pa.schema([("x", kind)]) for kind in (a, b)]
    try:
        return pa.unify_schemas(fields, promote_options="permissive").field(0).type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return None
