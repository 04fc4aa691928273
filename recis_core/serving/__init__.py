"""Rows on their way from training to serving, as they change.

    training                                            serving
    DeltaWriter(tables) ── publish ─▶ FileSink   … FileSource   ─┐
                        └─ publish ─▶ SocketSink … SocketSource ─┴▶ DeltaReader ─▶ RowStore.lookup

A version is one packet or more for each table with changes, and a commit. A reader applies whole
versions in order and refuses gaps; a version with base 0 is a snapshot, and starts or mends any reader.

What a reader holds is bounded (RowStore); with a key both sides of a socket show that they have it, and frames are of
use only where they were sent or written. docs/streams.md says what that protects against, and what not.
"""

from recis_core.serving.delta_reader import DeltaReader, Source
from recis_core.serving.delta_writer import DeltaWriter, Position, Sink
from recis_core.serving.row_store import RowStore
from recis_core.serving.stream_file import FileSink, FileSource
from recis_core.serving.stream_socket import SocketSink, SocketSource

__all__ = [
    "DeltaReader", "DeltaWriter", "FileSink", "FileSource", "Position", "RowStore", "Sink",
    "SocketSink", "SocketSource", "Source",
]  # fmt: skip
