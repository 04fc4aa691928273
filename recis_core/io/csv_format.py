"""CSV and TSV files: a line of names, then one line for each row; compressed if the name ends in .gz, .bz2 or .zst."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from recis_core.io.file_systems import arrow_file
from recis_core.urls import is_url

COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
VALUE = re.compile(r"Row #(\d+): .* invalid value ('.*')", re.DOTALL)
SEPARATORS = re.compile(r"[;|\t,]")
LINE = re.compile(r"Row #(\d+):")


class CsvFormat:
    """A file is one piece, read whole. A column's type fits all of its values; see `describe`."""

    name: str = "CSV"
    suffixes: tuple[str, ...] = tuple(kind + end for kind in (".csv", ".tsv") for end in ("", *COMPRESSED))
    piece: str = "rows"
    trusted: bool = True

    def describe(self, path: str) -> tuple[pa.Schema, int]:
        """Types as pyarrow infers them over all rows: integers, booleans, dates, timestamps, floats, else text.

        Unsigned integers of 64 bits stay integers; pyarrow alone would make them floats.
        """
        table = _parsed(path, {})
        if len(table.column_names) == 1 and SEPARATORS.search(table.column_names[0]):
            raise pa.ArrowInvalid(
                f"its line of names is one name, {table.column_names[0]!r}; columns are separated by commas, of .tsv by tabs"
            )
        _require_text(path, table.schema)
        fields = [pa.field(f.name, _wide_integer(path, f)) for f in table.schema]
        return pa.schema(fields), len(table)

    def piece_rows(self, path: str, rows: int) -> list[int]:
        return [rows]

    def read_piece(self, path: str, piece: int, wanted: pa.Schema) -> pa.Table:
        if not wanted.names:  # rows of partition folders' columns alone
            return _parsed(path, {})
        table = _parsed(path, {field.name: field.type for field in wanted}, wanted.names)
        return pa.table({field.name: _emptied(table[field.name]) for field in wanted})


def first_text(path: str, column: str) -> str:
    """For an error: the first value that makes a column text instead of numbers; "" if there is none."""
    try:
        _read(path, {column: pa.float64()}, [column], threads=False)
    except pa.ArrowInvalid as error:
        found = VALUE.search(str(error))
        return "" if found is None else f" (row {int(found[1]) - 2}, the first is 0, holds {found[2]})"
    return ""


def _parsed(path: str, types: dict[str, pa.DataType], columns: list[str] | None = None) -> pa.Table:
    try:
        return _read(path, types, columns, threads=True)
    except pa.ArrowInvalid:
        pass
    try:
        return _read(path, types, columns, threads=False)  # its error names the row
    except pa.ArrowInvalid as error:
        raise pa.ArrowInvalid(LINE.sub(_row, str(error))) from None


def _row(found: re.Match[str]) -> str:
    """Our row number; Arrow counts from 1, and counts the line of names."""
    return f"row {int(found[1]) - 2} (the first is 0):"


def _read(path: str, types: dict[str, pa.DataType], columns: list[str] | None, threads: bool) -> pa.Table:
    options = {
        "read_options": pyarrow.csv.ReadOptions(use_threads=threads),
        "parse_options": pyarrow.csv.ParseOptions(
            delimiter="\t" if ".tsv" in path[-8:].lower() else ",", newlines_in_values=True
        ),
        "convert_options": pyarrow.csv.ConvertOptions(column_types=types, include_columns=columns or []),
    }
    if not is_url(path):
        return pyarrow.csv.read_csv(path, **options)
    codec = next((codec for end, codec in COMPRESSED.items() if path.lower().endswith(end)), None)
    with arrow_file(path) as source:
        return pyarrow.csv.read_csv(source if codec is None else pa.CompressedInputStream(source, codec), **options)


def _require_text(path: str, schema: pa.Schema) -> None:
    """Arrow makes bytes of a column that is no UTF-8; raises ArrowInvalid that names the row."""
    for field in schema:
        if pa.types.is_binary(field.type):
            row = _first_refused(path, field.name, pa.string())
            raise pa.ArrowInvalid(f"column {field.name!r} holds text that is not UTF-8 (row {row}, the first is 0)")


def _first_refused(path: str, column: str, kind: pa.DataType) -> str:
    try:
        _read(path, {column: kind}, [column], threads=False)
    except pa.ArrowInvalid as error:
        found = LINE.search(str(error))
        return "unknown" if found is None else str(int(found[1]) - 2)
    return "unknown"


def _wide_integer(path: str, field: pa.Field) -> pa.DataType:
    """uint64 for a column of integers with values of 2**63 or more, which pyarrow reads as floats."""
    if not pa.types.is_floating(field.type):
        return field.type
    try:
        _read(path, {field.name: pa.uint64()}, [field.name], threads=True)
    except pa.ArrowInvalid:
        return field.type
    return pa.uint64()


def _emptied(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Empty text becomes null, like an empty cell of other types."""
    if not pa.types.is_string(column.type):
        return column
    return pc.if_else(pc.equal(column, ""), None, column)
