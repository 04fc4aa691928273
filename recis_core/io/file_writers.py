"""Writers of Parquet, ORC, CSV and Arrow IPC files, and the types that each format holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.orc
import pyarrow.parquet

from recis_core.io.csv_format import COMPRESSED
from recis_core.io.formats import format_of
from recis_core.io.kinds import is_list

Write = Callable[[pa.Table], Any]
GROUP = 1 << 17  # rows of a row group or record batch, at most
WIDER = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.float16(): pa.float32()}


@contextmanager
def written(path: str, schema: pa.Schema, ending: str) -> Iterator[Write]:
    """Gives a function that appends a table; the format is that of files that end in `ending`.

    Parquet has checksums of its pages, so that a flipped byte is found.
    """
    name = format_of(ending).name
    opened = {"Parquet": _parquet, "ORC": _orc, "CSV": _csv}.get(name, _arrow)
    with opened(path, schema, ending) as write:
        yield write


@contextmanager
def _parquet(path: str, schema: pa.Schema, ending: str) -> Iterator[Write]:
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as writer:
        yield lambda table: writer.write_table(table, row_group_size=GROUP)


@contextmanager
def _orc(path: str, schema: pa.Schema, ending: str) -> Iterator[Write]:
    with pyarrow.orc.ORCWriter(path, compression="zstd") as writer:
        writer.write(schema.empty_table())  # a file without rows has columns, too
        yield writer.write


@contextmanager
def _csv(path: str, schema: pa.Schema, ending: str) -> Iterator[Write]:
    codec = next((codec for end, codec in COMPRESSED.items() if ending.endswith(end)), None)
    options = pyarrow.csv.WriteOptions(delimiter="\t" if ".tsv" in ending else ",")
    with (
        pa.OSFile(path, "wb") as file,
        _through(file, codec) as sink,
        pyarrow.csv.CSVWriter(sink, schema, write_options=options) as writer,
    ):
        yield writer.write_table


@contextmanager
def _through(file: pa.NativeFile, codec: str | None) -> Iterator[pa.NativeFile]:
    if codec is None:
        yield file
        return
    with pa.CompressedOutputStream(file, codec) as sink:
        yield sink


@contextmanager
def _arrow(path: str, schema: pa.Schema, ending: str) -> Iterator[Write]:
    new = pa.ipc.new_stream if ending.endswith(".arrows") else pa.ipc.new_file
    with pa.OSFile(path, "wb") as file, new(file, schema) as writer:
        yield lambda table: writer.write_table(table, max_chunksize=GROUP)


def storable(schema: pa.Schema, ending: str) -> pa.Schema:
    """The same columns in the types that a format holds, for values alike.

    Raises:
      ValueError: it holds no such values; names the column.
    """
    form = format_of(ending).name
    return pa.schema([_storable_field(field, form) for field in schema])


def _storable_field(field: pa.Field, form: str) -> pa.Field:
    held = {"ORC": _in_orc, "CSV": _in_csv}.get(form, lambda kind: kind)
    kind = None if pa.types.is_union(field.type) else held(field.type)
    if kind is None:
        raise ValueError(
            f"{form} holds no {field.type} of column {field.name!r}. Leave it out (--columns), or convert to Parquet or Arrow."
        )
    return pa.field(field.name, kind)


def _in_orc(kind: pa.DataType) -> pa.DataType | None:
    types = pa.types
    if types.is_struct(kind):
        fields = [(field.name, _in_orc(field.type)) for field in kind]
        return None if any(each is None for _, each in fields) else pa.struct(fields)
    if types.is_map(kind):
        key, item = _in_orc(kind.key_type), _in_orc(kind.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    if is_list(kind):
        inner = _in_orc(kind.value_type)
        return None if inner is None else pa.list_(inner)
    if types.is_uint64(kind) or types.is_time(kind) or types.is_duration(kind) or types.is_decimal256(kind):
        return None
    if types.is_timestamp(kind):
        return pa.timestamp("ns", kind.tz)  # which it is read as: what does not fit is refused here
    if types.is_decimal(kind):
        return pa.decimal128(kind.precision, kind.scale)
    return {**WIDER, pa.date64(): pa.date32(), pa.null(): pa.bool_()}.get(kind, kind)


def _in_csv(kind: pa.DataType) -> pa.DataType | None:
    types = pa.types
    binary = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    if types.is_nested(kind) or types.is_duration(kind) or binary:
        return None
    return {pa.float16(): pa.float32(), pa.date64(): pa.date32(), pa.null(): pa.string()}.get(kind, kind)
