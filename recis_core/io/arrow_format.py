"""Arrow IPC: files, also called Feather (version 2), and streams.

They are read, not mapped: a mapped file that another process cuts short ends this one by SIGBUS, and mapping saves no time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from recis_core.io.file_systems import arrow_file

MAGIC = b"ARROW1"
END = b"\xff\xff\xff\xff\0\0\0\0"  # of a stream
CUT = "the stream does not end with an end-of-stream mark: it was cut short, or its writer was not closed"


class ArrowFormat:
    """A file is read by record batches; a stream, which has no footer, is one piece, read whole."""

    name: str = "Arrow IPC (Feather)"
    suffixes: tuple[str, ...] = (".arrow", ".feather", ".ipc", ".arrows")
    piece: str = "record batch"
    trusted: bool = False

    def describe(self, path: str) -> tuple[pa.Schema, int]:
        with arrow_file(path) as source:
            if _is_stream(source):
                with _stream(source) as stream:
                    return stream.schema, sum(batch.num_rows for batch in stream)
            return _schema(source), sum(_rows(source))

    def piece_rows(self, path: str, rows: int) -> list[int]:
        with arrow_file(path) as source:
            return [rows] if _is_stream(source) else _rows(source)

    def read_piece(self, path: str, piece: int, wanted: pa.Schema) -> pa.Table:
        with arrow_file(path) as source:
            if _is_stream(source):
                with _stream(source) as stream:
                    return stream.read_all()
            with _file(source, _numbers(_schema(source), wanted.names)) as file:
                if piece >= file.num_record_batches:
                    raise pa.ArrowInvalid(
                        f"it has {file.num_record_batches} record batches; it was rewritten since it was added"
                    )
                return pa.Table.from_batches([file.get_batch(piece)])


def _is_stream(source: pa.NativeFile) -> bool:
    source.seek(0)
    begin = source.read(len(MAGIC))
    if not begin:
        raise pa.ArrowInvalid("it is empty")
    if begin.startswith(b"FEA1"):
        raise pa.ArrowInvalid("it is Feather of version 1, which is not read; write it as version 2")
    source.seek(0)
    return begin != MAGIC


@contextmanager
def _stream(source: pa.NativeFile) -> Iterator[pa.RecordBatchStreamReader]:
    """Arrow reads a stream that was cut between two messages as a shorter one."""
    size = source.size()
    source.seek(max(0, size - len(END)))
    if source.read(len(END)) != END:
        raise pa.ArrowInvalid(CUT)
    source.seek(0)
    with pa.ipc.open_stream(source) as stream:
        yield stream


def _schema(source: pa.NativeFile) -> pa.Schema:
    with pa.ipc.open_file(source) as file:
        return file.schema


def _file(source: pa.NativeFile, columns: list[int]) -> pa.RecordBatchFileReader:
    """A reader of some columns; Arrow takes no columns for all of them."""
    return pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=columns))


def _numbers(schema: pa.Schema, names: list[str]) -> list[int]:
    return [number for number, name in enumerate(schema.names) if name in names]


def _is_flat(kind: pa.DataType) -> bool:
    return pa.types.is_primitive(kind)


def _rows(source: pa.NativeFile) -> list[int]:
    schema = _schema(source)
    narrow = sorted(
        range(len(schema)), key=lambda n: schema.field(n).type.num_fields + (not _is_flat(schema.field(n).type))
    )
    with _file(source, narrow[:1]) as file:
        return [file.get_batch(piece).num_rows for piece in range(file.num_record_batches)]
