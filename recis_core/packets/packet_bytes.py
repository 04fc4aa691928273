"""Header and arrays to one packet's bytes, and back with every byte accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from recis_core.backends.errors import PacketError
from recis_core.packets.packet_frame import (
    HEADER_LIMIT,
    PREAMBLE_BYTES,
    Bytes,
    check_padding,
    offsets_of,
    read_preamble,
    section_hash,
    write_preamble,
)  # fmt: skip
from recis_core.packets.packet_header import MAX_SECTIONS, PacketHeader, Section, pack_header, unpack_header

Arrays = dict[str, Tensor]


def assemble(header: PacketHeader, arrays: Arrays) -> bytes:
    """A packet of these sections, in the dict's order.

    Raises:
      ValueError: there are too many sections, or their names are too long.
    """
    if len(arrays) > MAX_SECTIONS:
        raise ValueError(f"a packet has at most {MAX_SECTIONS} sections; {len(arrays)} are needed. Send fewer slots.")
    parts = {name: _bytes_of(values) for name, values in arrays.items()}
    header, packed = _laid_out(header, arrays, parts)
    if len(packed) > HEADER_LIMIT:
        raise ValueError(f"a header has at most {HEADER_LIMIT} bytes; this one has {len(packed)}. Shorten the names.")
    _, total = offsets_of(len(packed), [len(part) for part in parts.values()])
    out = bytearray(total)
    out[: PREAMBLE_BYTES + len(packed)] = write_preamble(packed, total) + packed
    for section, part in zip(header.sections, parts.values(), strict=True):
        out[section.offset : section.offset + section.length] = part
    return bytes(out)


def _bytes_of(values: Tensor) -> memoryview:
    if not values.numel():
        return memoryview(b"")
    # As bytes first: numpy has no bfloat16.
    return memoryview(values.contiguous().reshape(-1).view(torch.uint8).numpy())


def _laid_out(header: PacketHeader, arrays: Arrays, parts: Mapping[str, memoryview]) -> tuple[PacketHeader, bytes]:
    """The header with its sections' offsets, which depend on its own length: settled in a few rounds."""
    lengths = [len(part) for part in parts.values()]
    hashes = [section_hash(part) for part in parts.values()]
    size = 0
    while True:
        offsets, _ = offsets_of(size, lengths)
        sections = tuple(
            Section(name, str(values.dtype).removeprefix("torch."), tuple(values.shape), *rest)
            for (name, values), *rest in zip(arrays.items(), offsets, lengths, hashes, strict=True)
        )
        header = replace(header, sections=sections)
        packed = pack_header(header)
        if offsets_of(len(packed), lengths)[0] == offsets:
            return header, packed
        size = len(packed)  # offsets never pack shorter as they grow, so this settles


def check_layout(view: memoryview, header: PacketHeader) -> None:
    """Raises PacketError unless each byte is preamble, header, an intact section or a zero between."""
    preamble = read_preamble(view)
    if len(view) != preamble.total:
        raise PacketError(f"the packet has {preamble.total} bytes; got {len(view)}. It is cut, or more follows it.")
    offsets, total = offsets_of(preamble.header_length, [section.length for section in header.sections])
    if offsets != [section.offset for section in header.sections] or total != preamble.total:
        raise PacketError("sections must follow one another at multiples of 64 up to the packet's end; they do not.")
    if len({section.name for section in header.sections}) != len(header.sections):
        raise PacketError("two sections have one name.")
    end = PREAMBLE_BYTES + preamble.header_length
    for section in header.sections:
        check_padding(view, end, section.offset)
        end = section.offset + section.length
        if section_hash(view[section.offset : end]) != section.xxh3:
            raise PacketError(f"section {section.name!r} is damaged: its hash does not match. Ask for it again.")
    check_padding(view, end, total)


def array_of(view: memoryview, section: Section) -> Tensor:
    """A copy of a section whose place was checked."""
    array = torch.empty(section.shape, dtype=getattr(torch, section.dtype))
    if section.length:
        raw = np.frombuffer(view, np.uint8, section.length, section.offset)
        array.reshape(-1).view(torch.uint8).numpy()[:] = raw
    return array


def rows_of(view: memoryview, section: Section, beg: int, end: int) -> Tensor:
    """A copy of the rows [beg, end) of a section whose place was checked."""
    wide = section.length // section.shape[0] if section.shape[0] else 0
    part = replace(
        section, shape=(end - beg, *section.shape[1:]), offset=section.offset + beg * wide, length=(end - beg) * wide
    )
    return array_of(view, part)


def read_header(data: Bytes) -> PacketHeader:
    """The header alone, its hash checked, of a packet whose preamble and header are here.

    Raises:
      PacketError: as decode; the sections are not looked at.
    """
    preamble = read_preamble(data)
    end = PREAMBLE_BYTES + preamble.header_length
    if preamble.total < end or len(data) < end:
        raise PacketError(f"the header ends at byte {end}; the packet says {preamble.total}, {len(data)} are here.")
    raw = data[PREAMBLE_BYTES:end]
    if section_hash(raw) != preamble.header_hash:
        raise PacketError("the header is damaged: its hash does not match. Ask for the packet again.")
    return unpack_header(raw)
