"""What a packet looks like in bytes: preamble, header, aligned sections, zeros between. All numbers little-endian.

 0  magic "RECISPKT" · u16 format · u16 zero · u32 header length · u64 total length
24  u64 xxh3 of the header · u64 xxh3 of bytes 0..32 · 24 zeros
64  header                                   (packet_header.py)
 …  each section at the next multiple of 64; the packet ends at one too
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import xxhash

from recis_core.backends.errors import PacketError

FORMAT = 1
MAGIC = b"RECISPKT"
ALIGNMENT = 64
HEADER_LIMIT = 1 << 16
TOTAL_LIMIT = 1 << 40
_PREAMBLE = struct.Struct("<8sHHIQQQ24x")
_HASHED = 32
PREAMBLE_BYTES = _PREAMBLE.size

Bytes = bytes | bytearray | memoryview


def aligned(position: int) -> int:
    """The next multiple of 64."""
    return -(-position // ALIGNMENT) * ALIGNMENT


def section_hash(data: Bytes) -> int:
    return xxhash.xxh3_64_intdigest(data)


def offsets_of(header_length: int, lengths: Sequence[int]) -> tuple[list[int], int]:
    """Where sections of these lengths begin behind such a header, and where the packet ends."""
    offsets, end = [], aligned(PREAMBLE_BYTES + header_length)
    for length in lengths:
        offsets.append(end)
        end = aligned(end + length)
    return offsets, end


@dataclass(frozen=True)
class Preamble:
    """Lengths and the header's hash, as checked by read_preamble."""

    header_length: int
    total: int
    header_hash: int


def write_preamble(header: bytes, total: int) -> bytes:
    head = [MAGIC, FORMAT, 0, len(header), total, section_hash(header)]
    first = _PREAMBLE.pack(*head, 0)[:_HASHED]
    return _PREAMBLE.pack(*head, section_hash(first))


def read_preamble(data: Bytes) -> Preamble:
    """Of the packet that begins here; says how long it is before the rest is there.

    Raises:
      PacketError: there are fewer than 64 bytes, or they are not an intact preamble of this format.
    """
    if len(data) < PREAMBLE_BYTES:
        raise PacketError(f"a packet begins with a preamble of {PREAMBLE_BYTES} bytes; got {len(data)}.")
    check_beginning(data)
    first = bytes(data[:PREAMBLE_BYTES])
    _, version, zero, header_length, total, header_hash, own_hash = _PREAMBLE.unpack(first)
    if own_hash != section_hash(first[:_HASHED]) or any(first[40:]):
        raise PacketError("the preamble is damaged: its hash does not match. Ask for the packet again.")
    if version != FORMAT or zero:
        raise PacketError(f"the packet has format {version}; this recis-core reads {FORMAT}. Upgrade the older side.")
    if header_length > HEADER_LIMIT or not PREAMBLE_BYTES <= total <= TOTAL_LIMIT:
        raise PacketError(
            f"header and packet may have {HEADER_LIMIT} and {TOTAL_LIMIT} bytes; got {header_length} and {total}."
        )
    return Preamble(header_length, total, header_hash)


def check_beginning(data: Bytes) -> None:
    """Raises PacketError unless a packet may begin with these bytes, however few."""
    begins = bytes(data[: len(MAGIC)])
    if not MAGIC.startswith(begins):
        raise PacketError(f"a packet begins with {MAGIC!r}; got {begins!r}. A stream sealed with a key needs key=.")


def check_padding(data: Bytes, start: int, end: int) -> None:
    """Raises PacketError unless these bytes are zeros."""
    if any(data[start:end]):
        raise PacketError(f"bytes {start} to {end} of the packet are padding and must be zero; some are not.")
