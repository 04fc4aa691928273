"""Parquet, ORC, CSV and Arrow IPC files as rows, pieces and columns.

A piece is read at once: a Parquet row group, an ORC stripe, a record batch, a whole CSV file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet


class FileFormat(Protocol):
    """How files of one format are read. Each call opens the file, so that threads share nothing."""

    name: str
    suffixes: tuple[str, ...]

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
def reading(path: str, form: str) -> Iterator[None]:
    """Turns Arrow's errors inside into a ValueError that names the file. Errors of the system (no such file) pass."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = error.filename or path
            error.strerror = str(error.strerror).split(". Detail:")[0]
            raise
        what = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"{path} cannot be read as {form}: {what or type(error).__name__}. Is it whole, and of that format? Write it "
            "anew, or leave it out."
        ) from None


class ParquetFormat:
    name: str = "Parquet"
    suffixes: tuple[str, ...] = (".parquet", ".pq")

    def describe(self, path: str) -> tuple[pa.Schema, int]:
        with pyarrow.parquet.ParquetFile(path) as file:
            return file.schema_arrow, file.metadata.num_rows

    def piece_rows(self, path: str, rows: int) -> list[int]:
        metadata = pyarrow.parquet.read_metadata(path)
        return [metadata.row_group(piece).num_rows for piece in range(metadata.num_row_groups)]

    def read_piece(self, path: str, piece: int, wanted: pa.Schema) -> pa.Table:
        with pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read_row_group(piece, columns=wanted.names, use_threads=False)


class OrcFormat:
    name: str = "ORC"
    suffixes: tuple[str, ...] = (".orc",)

    def describe(self, path: str) -> tuple[pa.Schema, int]:
        file = pyarrow.orc.ORCFile(path)
        return file.schema, file.nrows

    def piece_rows(self, path: str, rows: int) -> list[int]:
        file = pyarrow.orc.ORCFile(path)
        if file.nstripes <= 1:
            return [file.nrows] * file.nstripes
        # pyarrow does not give a stripe's number of rows; the narrowest column is read to count them.
        narrowest = min(file.schema, key=lambda field: pa.types.is_nested(field.type)).name
        return [file.read_stripe(piece, columns=_orc_columns([narrowest])).num_rows for piece in range(file.nstripes)]

    def read_piece(self, path: str, piece: int, wanted: pa.Schema) -> pa.Table:
        columns = _orc_columns(wanted.names)
        return pa.Table.from_batches([pyarrow.orc.ORCFile(path).read_stripe(piece, columns=columns)])


def _orc_columns(names: list[str]) -> list[str] | None:
    """None, all columns, if a name has a dot: ORC would read it as a field of a struct."""
    return None if any("." in name for name in names) else names


class ArrowFormat:
    """Arrow IPC files, also called Feather (version 2); not streams."""

    name: str = "Arrow IPC (Feather)"
    suffixes: tuple[str, ...] = (".arrow", ".feather", ".ipc")

    def describe(self, path: str) -> tuple[pa.Schema, int]:
        with pa.OSFile(path) as source, pa.ipc.open_file(source) as file:
            return file.schema, sum(self._rows(file))

    def piece_rows(self, path: str, rows: int) -> list[int]:
        with pa.OSFile(path) as source, pa.ipc.open_file(source) as file:
            return self._rows(file)

    def _rows(self, file: pa.RecordBatchFileReader) -> list[int]:
        return [file.get_batch(piece).num_rows for piece in range(file.num_record_batches)]

    def read_piece(self, path: str, piece: int, wanted: pa.Schema) -> pa.Table:
        with pa.memory_map(path) as source, pa.ipc.open_file(source) as file:
            return pa.Table.from_batches([file.get_batch(piece)])
