"""Rows of one table as bytes that check themselves: for serving, for checkpoints, for gradients outside a group.

Sizes: n ids, D dim, E erased ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from recis_core.backends.errors import PacketError
from recis_core.packets import packet_arguments as arguments
from recis_core.packets import packet_codec as codecs
from recis_core.packets.encoded_packet import ERASED, SLOT, check_decoded_size
from recis_core.packets.packet_bytes import Arrays, array_of, assemble, check_layout, read_header
from recis_core.packets.packet_frame import Bytes
from recis_core.packets.packet_header import PacketHeader

DECODED_LIMIT = 1 << 32


@dataclass(frozen=True)
class Packet:
    """What `decode` read.

    ids: int64 [n] in the sender's order. rows: float32 [n, D]. erased: int64 [E].
    slots: {name: float32 [n, width]}. header: all else a packet says.
    """

    header: PacketHeader
    ids: Tensor
    rows: Tensor
    erased: Tensor
    slots: dict[str, Tensor] = field(default_factory=dict)

    @property
    def table(self) -> str:
        return self.header.table

    @property
    def is_commit(self) -> bool:
        return self.header.kind == "commit"


def encode(
    *,
    table: str,
    ids: Tensor | np.ndarray,
    rows: Tensor | np.ndarray,
    codec: str = "fp32",
    id_codec: str = "raw",
    erased: Tensor | np.ndarray | None = None,
    slots: Mapping[str, Tensor | np.ndarray] | None = None,
    stream: bytes = b"",
    base: int = 0,
    version: int = 0,
    sequence: int = 0,
) -> bytes:
    """Rows of a table as one packet. Equal arguments give equal bytes.

    Args:
      table: its name, 1 to 1024 bytes of UTF-8.
      ids: int64 [n], any numbers in any order. n may be 0.
      rows: float32 [n, D], also where n is 0. Rows with NaN or inf travel exact under every codec.
      codec: fp32 | bf16 | fp16 | fp8 | int8 | int4 | sign | lossless. id_codec: raw | packed.
      erased: int64 [E], ids the table no longer has.
      slots: {name: float32 [n, width]}, optimizer state beside the rows; always exact.
      stream, base, version, sequence: as PacketHeader; left alone outside a stream.

    Raises:
      TypeError: an argument is of the wrong kind. ValueError: a shape, name or number is out of bounds.
    """
    name = arguments.checked_name("table", table)
    ids, rows = arguments.ids_and_rows(ids, rows)
    row_number, id_number = codecs.number_of(codec, codecs.ROW_CODECS), codecs.number_of(id_codec, codecs.ID_CODECS)
    place = arguments.place_in_stream(stream, base, version, sequence)
    arrays = codecs.encode_ids(id_codec, ids) | codecs.encode_rows(codec, rows) | _extras(len(ids), erased, slots or {})
    return assemble(PacketHeader("rows", name, rows.shape[1], len(ids), row_number, id_number, **place), arrays)


def _extras(n: int, erased: Tensor | np.ndarray | None, slots: Mapping[str, Tensor | np.ndarray]) -> Arrays:
    extras = {} if erased is None else {ERASED: arguments.id_tensor("erased", erased)}
    for name, values in slots.items():
        extras[arguments.checked_name("a slot's name", SLOT + name)] = arguments.slot_tensor(name, values, n)
    return extras


def encode_commit(*, stream: bytes, base: int, version: int, sequence: int) -> bytes:
    """The record that ends a version of a stream: its `sequence` packets have all been sent."""
    place = arguments.place_in_stream(stream, base, version, sequence)
    return assemble(PacketHeader("commit", "", 0, 0, 0, 0, **place), {})


def decode(data: Bytes, *, max_bytes: int = DECODED_LIMIT) -> Packet:
    """The packet these bytes are, from first to last.

    Every length is checked against the bytes that are there, and every hash, before anything of a
    packet's size is allocated. max_bytes bounds what ids, rows and slots take once decoded.

    Raises:
      PacketError: the bytes are damaged, cut, too many, of another format, or past a bound.
      TypeError: data is not bytes.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"a packet must be bytes; got {type(data).__name__}. Read files in binary mode.")
    view = memoryview(data).cast("B")
    header = read_header(view)
    check_layout(view, header)
    check_decoded_size(header, max_bytes)
    arrays = {section.name: array_of(view, section) for section in header.sections}
    if header.kind == "commit":
        no_ids = torch.zeros(0, dtype=torch.int64)
        return Packet(header, no_ids, torch.zeros(0, 0), no_ids)
    return _packet(header, arrays)


def _packet(header: PacketHeader, arrays: Arrays) -> Packet:
    n = header.count
    # Rows first: their bytes are n's proof, before a few packed bytes may become n ids.
    rows = codecs.decode_rows(codecs.name_of(header.codec, codecs.ROW_CODECS), arrays, n, header.dim)
    ids = codecs.decode_ids(codecs.name_of(header.id_codec, codecs.ID_CODECS), arrays, n)
    erased = codecs.take(arrays, ERASED, "int64", (None,)) if ERASED in arrays else ids[:0]
    slots = {
        name.removeprefix(SLOT): codecs.take(arrays, name, "float32", (n, None))
        for name in list(arrays)
        if name.startswith(SLOT)
    }
    if arrays:
        raise PacketError(f"sections {sorted(arrays)} do not belong in a packet of these codecs.")
    return Packet(header, ids, rows, erased, slots)
