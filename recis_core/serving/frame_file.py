"""A stream's file, read by where frames begin: frames one after another, or with a key

 0  "RECISSEA" · nonce (16) · 8 zeros · HMAC of them (32)
64  frame · HMAC (32) · frame · HMAC …

The HMAC of a frame covers the nonce and the byte where it begins, so that none is of use in another file or place.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from recis_core.backends.errors import PacketError
from recis_core.packets.packet_bytes import read_header
from recis_core.packets.packet_frame import PREAMBLE_BYTES, check_beginning, read_preamble
from recis_core.packets.packet_header import PacketHeader
from recis_core.serving.authentication import Seal

FRAME_LIMIT = 1 << 28
_HEAD = struct.Struct("<8s16s8x32s")
HEAD_BYTES = _HEAD.size
SEALED = b"RECISSEA"


class FrameFile:
    """Frames of an open file. `nonce` is what an earlier look found in its head, if there was one."""

    def __init__(self, file: io.FileIO, name: object, key: bytes | None, nonce: bytes | None, max_frame: int) -> None:
        self._file, self._name, self._key, self._max_frame = file, name, key, max_frame
        self.nonce = nonce
        self.begin = 0 if key is None else HEAD_BYTES
        self._tag_bytes = Seal(key).tag_bytes

    def size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def has_head(self) -> bool:
        """Whether frames can be read: without a key at once, with one when its head is there.

        Raises:
          PacketError: the file begins otherwise, or was sealed with another key, or is another than before.
        """
        if self._key is None:
            return True
        head = self._bytes(0, min(HEAD_BYTES, self.size()))
        if not SEALED.startswith(head[: len(SEALED)]):
            raise PacketError(
                f"{self._name} was not sealed with a key: it begins with {head[: len(SEALED)]!r}, not {SEALED!r}. "
                "Write a new file, or read it without key=."
            )
        if len(head) < HEAD_BYTES:
            return False
        _, nonce, tag = _HEAD.unpack(head)
        with self._named(0):
            Seal(self._key, b"recis head").check(head[:32], tag)
        if head[24:32].strip(b"\0") or self.nonce not in (None, nonce):
            raise PacketError(f"{self._name} is another file than what was read of it; it was replaced. Open it anew.")
        self.nonce = nonce
        return True

    def new_head(self) -> bytes:
        """For an empty file: nothing without a key."""
        if self._key is None:
            return b""
        self.nonce = os.urandom(16)
        head = _HEAD.pack(SEALED, self.nonce, bytes(32))[:32]
        return head + Seal(self._key, b"recis head").tag(head)

    def seal(self, at: int) -> Seal:
        """Of the frame that begins at a byte."""
        if self._key is None:
            return Seal(None)
        return Seal(self._key, b"recis file" + (self.nonce or b"") + struct.pack("<Q", at))

    def header_at(self, at: int) -> tuple[PacketHeader, int] | None:
        """(header, where the frame ends), or None where the frame is not whole yet.

        Raises:
          PacketError: no intact preamble and header are here.
        """
        with self._named(at):
            return self._header_at(at)

    def _header_at(self, at: int) -> tuple[PacketHeader, int] | None:
        size = self.size()
        if size - at < PREAMBLE_BYTES:
            check_beginning(self._bytes(at, max(0, size - at)))
            return None
        preamble = read_preamble(self._bytes(at, PREAMBLE_BYTES))
        if preamble.total > self._max_frame:
            raise PacketError(
                f"a frame may have {self._max_frame} bytes; this one has {preamble.total}. Raise the bound."
            )
        end = at + preamble.total + self._tag_bytes
        if end > size:
            return None
        return read_header(self._bytes(at, PREAMBLE_BYTES + preamble.header_length)), end

    def frame(self, at: int, end: int) -> bytes:
        """A whole frame, without its HMAC, which is checked."""
        body = self._bytes(at, end - at - self._tag_bytes)
        tag = self._bytes(end - self._tag_bytes, self._tag_bytes)
        with self._named(at):
            self.seal(at).check(body, tag)
        return body

    def commit_after(self, at: int, limit: int) -> int | None:
        """Where the next commit from `at` on ends; None where there is none yet below `limit`."""
        while at < limit and (found := self.header_at(at)):
            header, at = found
            if header.kind == "commit":
                return at
        return None

    def is_zeros(self, at: int) -> bool:
        """Whether nothing else lies from a byte on: room that was given before a crash, and not written."""
        size, step = self.size(), 1 << 20
        return not any(any(self._bytes(some, min(step, size - some))) for some in range(at, size, step))

    def _bytes(self, at: int, count: int) -> bytes:
        parts = []
        while count and (part := os.pread(self._file.fileno(), count, at)):
            parts.append(part)
            at, count = at + len(part), count - len(part)
        if count:
            raise PacketError(f"the stream's file became shorter while it was read at byte {at}.")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @contextmanager
    def _named(self, at: int) -> Iterator[None]:
        """Errors say which file, and where in it."""
        try:
            yield
        except PacketError as error:
            raise PacketError(f"{self._name}, byte {at}: {error}") from error
