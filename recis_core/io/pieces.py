"""Reads one piece of a file, checked; errors name the file, the piece and the column."""

from __future__ import annotations

import pyarrow as pa

from recis_core.io.file_format import FileFormat, reading
from recis_core.io.kinds import is_list
from recis_core.io.maps import held_names, split_columns


def read_piece(form: FileFormat, path: str, piece: int, wanted: pa.Schema) -> pa.Table:
    """The columns of one piece, as FileSet.schemas names and types them.

    Raises:
      ValueError: Arrow cannot read the piece, a string is no UTF-8, or offsets do not fit; names file, piece and column.
    """
    where = f", {form.piece} {piece}"
    with reading(path, form.name, where):
        try:
            table = _read(form, path, piece, wanted)
        except (pa.ArrowException, OSError, UnicodeError):
            _name_column(form, path, piece, wanted)
            raise
    for number, field in enumerate(table.schema):
        if not form.trusted or _has_text(field.type):
            with reading(path, form.name, f", column {field.name!r}{where}"):
                _validate(table.column(number))
    return split_columns(table, wanted)


def _read(form: FileFormat, path: str, piece: int, wanted: pa.Schema) -> pa.Table:
    types = {field.name: field.type for field in wanted}
    held = pa.schema([pa.field(name, types.get(name, pa.null())) for name in held_names(wanted)])
    table = form.read_piece(path, piece, held)
    there = set(table.column_names)
    gone = [name for name in held.names if name not in there]
    if gone:
        raise pa.ArrowInvalid(
            f"column {', '.join(map(repr, gone))} is not there any more; it was when the file was added"
        )
    return table.select(held.names)


def _name_column(form: FileFormat, path: str, piece: int, wanted: pa.Schema) -> None:
    """After a failure: reads column by column; raises at the first that cannot be read, with its name."""
    for field in wanted:
        with reading(path, form.name, f", column {field.name!r}, {form.piece} {piece}"):
            _read(form, path, piece, pa.schema([field]))


def _has_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _has_text(kind.value_type)
    if pa.types.is_map(kind):
        return _has_text(kind.key_type) or _has_text(kind.item_type)
    if is_list(kind):
        return _has_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _validate(column: pa.ChunkedArray) -> None:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        text = "UTF8" in str(error)
        way_out = "; write the column as binary, or its text as UTF-8" if text else ""
        raise pa.ArrowInvalid(f"{str(error).split(': ', 1)[-1]}{way_out}") from None
