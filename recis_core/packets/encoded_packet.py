"""A packet that is checked and still encoded: its ids and rows are decoded when they are read, some rows at a time.

Sizes: n ids, D dim, E exact rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from recis_core.backends.errors import PacketError
from recis_core.backends.row_codes import ESCAPE
from recis_core.backends.spec import RowCodec
from recis_core.packets import packet_codec as codecs
from recis_core.packets.packet_bytes import array_of, check_layout, read_header, rows_of
from recis_core.packets.packet_frame import Bytes
from recis_core.packets.packet_header import PacketHeader, Section

ERASED, SLOT = "erased", "slot."
BLOCK_ROWS, BLOCK_BYTES = 1 << 14, 1 << 21  # decoded at once, at most


class EncodedPacket:
    """What `open_packet` checked: header, layout, hashes and the sections' shapes. It keeps `data`, copies nothing.

    Ids and rows are checked as they are decoded, so that reading them may raise PacketError.
    """

    def __init__(self, data: Bytes, header: PacketHeader) -> None:
        self.data, self.header = data, header
        self._view = memoryview(data).cast("B")
        self._sections = {section.name: section for section in header.sections}
        if header.kind == "rows":
            self._codec = codecs.name_of(header.codec, codecs.ROW_CODECS)
            self._id_codec = codecs.name_of(header.id_codec, codecs.ID_CODECS)
            self._check_sections()

    @property
    def is_commit(self) -> bool:
        return self.header.kind == "commit"

    @property
    def nbytes(self) -> int:
        return len(self._view)

    def _check_sections(self) -> None:
        n, wide = self.header.count, RowCodec(self._codec).row_bytes(self.header.dim)
        wanted: dict[str, tuple[str, tuple[int | None, ...]]] = {
            f"rows.{self._codec}": ("uint8", (n, wide)),
            f"ids.{self._id_codec}": ("int64", (n,)) if self._id_codec == "raw" else ("uint8", (None,)),
        }
        if self._codec == "lossless":
            wanted[codecs.TAIL] = ("uint8", (None,))
        if codecs.EXACT in self._sections:
            wanted[codecs.EXACT] = ("int64", (None,))
            exact = self._sections[codecs.EXACT].shape
            wanted[codecs.EXACT_VALUES] = ("float32", (exact[0] if exact else 0, self.header.dim))
        if ERASED in self._sections:
            wanted[ERASED] = ("int64", (None,))
        wanted |= {name: ("float32", (n, None)) for name in self._sections if name.startswith(SLOT)}
        for name, (dtype, shape) in wanted.items():
            self._check_section(name, dtype, shape)
        if extra := sorted(self._sections.keys() - wanted.keys()):
            raise PacketError(f"sections {extra} do not belong in a packet of these codecs.")

    def _check_section(self, name: str, dtype: str, shape: tuple[int | None, ...]) -> None:
        if name not in self._sections:
            raise PacketError(f"section {name!r} is missing; there are {sorted(self._sections)}.")
        found = self._sections[name]
        fits = len(found.shape) == len(shape) and all(w in (None, s) for w, s in zip(shape, found.shape, strict=True))
        if not fits or found.dtype != dtype:
            size = [size if size is not None else "any" for size in shape]
            raise PacketError(f"section {name!r} must be {dtype} {size}; got {found.dtype} {list(found.shape)}.")

    def ids(self) -> Tensor:
        """Int64 [n]."""
        name = f"ids.{self._id_codec}"
        return codecs.decode_ids(self._id_codec, {name: self._array(name)}, self.header.count)

    def erased(self) -> Tensor:
        """Int64 [E]."""
        return self._array(ERASED) if ERASED in self._sections else torch.zeros(0, dtype=torch.int64)

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """(place of the first, rows float32 [·, D]) of all rows in order, a block at a time."""
        n, step = self.header.count, max(1, min(BLOCK_ROWS, BLOCK_BYTES // (4 * self.header.dim)))
        exact, tail_at = self._exact(), 0
        for beg in range(0, n, step):
            end = min(n, beg + step)
            codes = self._rows(f"rows.{self._codec}", beg, end)
            arrays = {f"rows.{self._codec}": codes}
            if self._codec == "lossless":
                escapes = _escapes(codes, self.header.dim)
                arrays[codecs.TAIL] = self._rows(codecs.TAIL, tail_at, tail_at + escapes)
                tail_at += escapes
            first, last = (int(at) for at in np.searchsorted(exact, [beg, end]))
            if first < last:
                arrays[codecs.EXACT] = torch.from_numpy(exact[first:last] - beg)
                arrays[codecs.EXACT_VALUES] = self._rows(codecs.EXACT_VALUES, first, last)
            yield beg, codecs.decode_rows(self._codec, arrays, end - beg, self.header.dim)
        if self._codec == "lossless" and tail_at != self._sections[codecs.TAIL].shape[0]:
            raise PacketError(f"rows of lossless need {tail_at} bytes of tail; there are more.")

    def _exact(self) -> np.ndarray:
        """Int64 [E], which rows are exact."""
        if codecs.EXACT not in self._sections:
            return np.zeros(0, np.int64)
        exact = self._array(codecs.EXACT)
        codecs.check_exact(exact, self.header.count)
        return exact.numpy()

    def _array(self, name: str) -> Tensor:
        return array_of(self._view, self._sections[name])

    def _rows(self, name: str, beg: int, end: int) -> Tensor:
        section: Section = self._sections[name]
        if end > section.shape[0]:
            raise PacketError(f"section {name!r} has {section.shape[0]} rows; {end} are needed.")
        return rows_of(self._view, section, beg, end)


def open_packet(data: Bytes, *, max_bytes: int) -> EncodedPacket:
    """The packet these bytes are, checked without decoding its ids and rows. The bytes must not change afterwards.

    Raises:
      PacketError: as `decode`, but for what the ids' and rows' own bytes say.
      TypeError: data is not bytes.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"a packet must be bytes; got {type(data).__name__}. Read files in binary mode.")
    view = memoryview(data).cast("B")
    header = read_header(view)
    check_layout(view, header)
    check_decoded_size(header, max_bytes)
    return EncodedPacket(data, header)


def check_decoded_size(header: PacketHeader, max_bytes: int) -> None:
    """Raises PacketError where ids, rows, erased ids and slots would take more."""
    rest = sum(section.length for section in header.sections if section.name.startswith((ERASED, SLOT)))
    wanted = header.count * (8 + 4 * header.dim) + rest
    if wanted > max_bytes:
        raise PacketError(
            f"the packet would take {wanted} bytes decoded; max_bytes is {max_bytes}. Raise it, or send fewer rows each."
        )


def _escapes(codes: Tensor, dim: int) -> int:
    """How many columns of lossless rows have their exponent in the tail: those whose three bits are all set."""
    packed = codes.numpy()[:, 1 + dim :]
    bits = np.unpackbits(packed, axis=1, count=3 * dim, bitorder="little").reshape(len(packed), dim, 3)
    return int((bits.sum(2, dtype=np.uint8) == ESCAPE.bit_count()).sum())
