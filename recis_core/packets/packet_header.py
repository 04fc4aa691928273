"""A packet's header: a msgpack map of fixed fields, each of one type and within bounds.

Unknown, missing, repeated or oddly packed fields are refused: a header has one form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from recis_core.backends.errors import PacketError
from recis_core.packets.packet_frame import Bytes

KINDS = ("rows", "commit")
# Bytes of one element; what torch and numpy name so.
DTYPES = {
    "uint8": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8, "float16": 2, "bfloat16": 2, "float32": 4,
}  # fmt: skip
MAX_NAME = 1024
MAX_SECTIONS = 64
MAX_DIM = 1 << 20
MAX_COUNT = 1 << 40
MAX_NUMBER = (1 << 63) - 1
STREAM_BYTES = 16


@dataclass(frozen=True)
class Section:
    """One raw array: `length` bytes from `offset`, C order, little-endian."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int
    xxh3: int


@dataclass(frozen=True)
class PacketHeader:
    """What a packet says of itself.

    kind: "rows", or "commit": all packets of `version` have been sent.
    table, dim, count: rows [count, dim] of which table; "", 0, 0 in a commit.
    codec, id_codec: numbers of recis_core.packets.packet_codec.
    stream: 16 bytes that name one writer; b"" outside a stream.
    base, version: a reader at `base` is at `version` once the commit came; base 0 replaces all it had.
    sequence: place in the version, from 0; a commit's is the number of packets before it.
    """

    kind: str
    table: str
    dim: int
    count: int
    codec: int
    id_codec: int
    stream: bytes = b""
    base: int = 0
    version: int = 0
    sequence: int = 0
    sections: tuple[Section, ...] = ()


_NUMBERS = {
    "dim": MAX_DIM, "count": MAX_COUNT, "codec": 255, "id_codec": 255,
    "base": MAX_NUMBER, "version": MAX_NUMBER, "sequence": MAX_NUMBER,
}  # fmt: skip
_FIELDS = tuple(PacketHeader.__dataclass_fields__)
_SECTION_FIELDS = tuple(Section.__dataclass_fields__)


def pack_header(header: PacketHeader) -> bytes:
    """The one msgpack form of a header."""
    plain = {name: getattr(header, name) for name in _FIELDS}
    plain["sections"] = [[getattr(section, name) for name in _SECTION_FIELDS] for section in header.sections]
    return bytes(msgpack.packb(plain))


def unpack_header(raw: Bytes) -> PacketHeader:
    """Raises PacketError unless this is a header's one form, every field typed and bounded."""
    header = _typed(_unpacked(raw))
    if pack_header(header) != bytes(raw):
        raise PacketError("the header is not in its one form: fields repeated, out of order or oddly packed.")
    return header


def _unpacked(raw: Bytes) -> dict[str, Any]:
    try:
        plain = msgpack.unpackb(
            raw, raw=False, strict_map_key=True,
            max_str_len=MAX_NAME, max_bin_len=STREAM_BYTES, max_ext_len=0,
            max_array_len=MAX_SECTIONS, max_map_len=len(_FIELDS),
        )  # fmt: skip
    except (ValueError, msgpack.UnpackException) as error:
        raise PacketError(f"the header is not msgpack within bounds: {error!r:.200}.") from error
    if not isinstance(plain, dict) or set(plain) != set(_FIELDS):
        raise PacketError(f"the header must be a map of {', '.join(_FIELDS)}; got something else.")
    return plain


def _typed(plain: dict[str, Any]) -> PacketHeader:
    numbers = {name: _number(name, plain[name], limit) for name, limit in _NUMBERS.items()}
    kind, stream = plain["kind"], plain["stream"]
    if kind not in KINDS:
        raise PacketError(f"kind must be one of {', '.join(KINDS)}; got {kind!r:.80}.")
    if type(stream) is not bytes or len(stream) not in (0, STREAM_BYTES):
        raise PacketError(f"stream must be {STREAM_BYTES} bytes or none; got {stream!r:.80}.")
    sections = tuple(_section(item) for item in _list("sections", plain["sections"]))
    header = PacketHeader(kind, _name("table", plain["table"]), stream=stream, sections=sections, **numbers)
    _check_kind(header)
    return header


def _check_kind(header: PacketHeader) -> None:
    named = (header.table, header.dim, header.count, header.sections)
    if header.kind == "commit" and named != ("", 0, 0, ()):
        raise PacketError(f"a commit names no table and holds no rows; got {named!r:.200}.")
    if header.kind == "rows" and not (header.table and header.dim):
        raise PacketError(f"a packet of rows needs a table and dim >= 1; got {header.table!r:.80}, {header.dim}.")
    if header.version < header.base or (header.stream and header.version == header.base):
        raise PacketError(f"version must be past base; got version {header.version}, base {header.base}.")


def _section(item: Any) -> Section:
    values = _list("section", item)
    if len(values) != len(_SECTION_FIELDS):
        raise PacketError(f"a section has {', '.join(_SECTION_FIELDS)}; got {len(values)} fields.")
    name, dtype, shape, offset, length, xxh3 = values
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise PacketError(f"a section's dtype must be one of {', '.join(DTYPES)}; got {dtype!r:.80}.")
    sizes = tuple(_number("shape", size, MAX_COUNT) for size in _list("shape", shape))
    if len(sizes) > 2:
        raise PacketError(f"a section has at most 2 dimensions; got {len(sizes)}.")
    section = Section(
        _name("section", name), dtype, sizes, _number("offset", offset, MAX_NUMBER),
        _number("length", length, MAX_NUMBER), _number("xxh3", xxh3, (1 << 64) - 1),
    )  # fmt: skip
    if section.length != math.prod(sizes) * DTYPES[dtype]:
        raise PacketError(f"section {name!r:.80} of {dtype} {list(sizes)} cannot have {section.length} bytes.")
    return section


def _number(name: str, value: Any, limit: int) -> int:
    if type(value) is not int or not 0 <= value <= limit:
        raise PacketError(f"{name} must be an integer from 0 to {limit}; got {value!r:.80}.")
    return value


def _name(name: str, value: Any) -> str:
    if type(value) is not str or len(value.encode()) > MAX_NAME:
        raise PacketError(f"{name} must be text of at most {MAX_NAME} bytes; got {value!r:.80}.")
    return value


def _list(name: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise PacketError(f"{name} must be a list; got {value!r:.80}.")
    return value
