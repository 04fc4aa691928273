"""Files as rows, pieces and columns.

A piece is read at once: a Parquet row group, an ORC stripe, a record batch, a whole CSV file or Arrow stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet

from recis_core.io.file_systems import arrow_file, naming
from recis_core.urls import is_url


class FileFormat(Protocol):
    """How files of one format are read. Each call opens the file, so that threads share nothing."""

    name: str
    suffixes: tuple[str, ...]
    piece: str  # the format's word for a piece
    trusted: bool  # whether Arrow decodes offsets itself, so that they fit; else they are read as they stand

    def describe(self, path: str) -> tuple[pa.Schema, int]:
        """(schema, rows), from the file's footer if the format has one."""
        ...

    def piece_rows(self, path: str, rows: int) -> list[int]:
        """Rows of each piece of a file of `rows`."""
        ...

    def read_piece(self, path: str, piece: int, wanted: pa.Schema) -> pa.Table:
        """The columns of one piece that `wanted` names, and maybe more. Text files are parsed as the types of `wanted`."""
        ...


@contextmanager
def reading(path: str, form: str, where: str = "") -> Iterator[None]:
    """Turns Arrow's errors inside into a ValueError that names file and place. Errors of the system (no such file) pass."""
    try:
        with naming(path):
            yield
    except (pa.ArrowException, OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = error.filename or path
            error.strerror = str(error.strerror).split(". Detail:")[0]
            raise
        what = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"{path}{where} cannot be read as {form}: {what or type(error).__name__}. Is it whole, and of that format? Write it "
            "anew, or leave it out."
        ) from None


class ParquetFormat:
    name: str = "Parquet"
    suffixes: tuple[str, ...] = (".parquet", ".pq")
    piece: str = "row group"
    trusted: bool = True

    def describe(self, path: str) -> tuple[pa.Schema, int]:
        with arrow_file(path) as source, pyarrow.parquet.ParquetFile(source) as file:
            return file.schema_arrow, file.metadata.num_rows

    def piece_rows(self, path: str, rows: int) -> list[int]:
        with arrow_file(path) as source, pyarrow.parquet.ParquetFile(source) as file:
            return [file.metadata.row_group(piece).num_rows for piece in range(file.num_row_groups)]

    def read_piece(self, path: str, piece: int, wanted: pa.Schema) -> pa.Table:
        """A column that `wanted` has as a dictionary is read as one, where the file has it so."""
        options: dict[str, Any] = {"page_checksum_verification": True}
        if is_url(path):
            options["pre_buffer"] = True  # neighbouring columns in one request
        with arrow_file(path) as source:
            coded = {field.name for field in wanted if pa.types.is_dictionary(field.type)}
            if coded:
                options["metadata"] = pyarrow.parquet.read_metadata(source)
                options["read_dictionary"] = _coded(options["metadata"].row_group(piece), coded)
                source.seek(0)
            with pyarrow.parquet.ParquetFile(source, **options) as file:
                return file.read_row_group(piece, columns=wanted.names, use_threads=False)


MOST_CODED = 1 << 20  # bytes: a writer gives up a dictionary that is larger, and goes on with plain values


def _coded(group: pyarrow.parquet.RowGroupMetaData, names: set[str]) -> list[str]:
    """Columns that are codes throughout, as far as sizes tell: to make codes of plain values takes longer than to read them."""
    columns = [group.column(n) for n in range(group.num_columns)]
    return [
        column.path_in_schema
        for column in columns
        if column.path_in_schema in names
        and column.has_dictionary_page
        and column.total_uncompressed_size <= max(MOST_CODED, 4 * group.num_rows)
    ]


class OrcFormat:
    name: str = "ORC"
    suffixes: tuple[str, ...] = (".orc",)
    piece: str = "stripe"
    trusted: bool = True

    def describe(self, path: str) -> tuple[pa.Schema, int]:
        with arrow_file(path) as source:
            file = pyarrow.orc.ORCFile(source)
            return file.schema, file.nrows

    def piece_rows(self, path: str, rows: int) -> list[int]:
        with arrow_file(path) as source:
            file = pyarrow.orc.ORCFile(source)
            if file.nstripes <= 1:
                return [file.nrows] * file.nstripes
            # pyarrow does not give a stripe's number of rows; the narrowest column is read to count them.
            columns = _orc_columns([_narrowest(file.schema)])
            return [file.read_stripe(piece, columns=columns).num_rows for piece in range(file.nstripes)]

    def read_piece(self, path: str, piece: int, wanted: pa.Schema) -> pa.Table:
        with arrow_file(path) as source:
            file = pyarrow.orc.ORCFile(source)
            columns = _orc_columns(wanted.names or [_narrowest(file.schema)])  # without columns it gives no rows
            return pa.Table.from_batches([file.read_stripe(piece, columns=columns)])


def _narrowest(schema: pa.Schema) -> str:
    return str(min(schema, key=lambda field: pa.types.is_nested(field.type)).name)


def _orc_columns(names: list[str]) -> list[str] | None:
    """None, all columns, if a name has a dot: ORC would read it as a field of a struct."""
    return None if any("." in name for name in names) else names
