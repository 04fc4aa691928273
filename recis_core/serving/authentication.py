"""An HMAC behind each frame of a stream: a hash detects damage, not forgery."""

from __future__ import annotations

import hashlib
import hmac

from recis_core.backends.errors import PacketError
from recis_core.packets.packet_frame import Bytes

MIN_KEY = 16


class Seal:
    """Tags frames with HMAC-SHA256(key, context + frame), or leaves them alone where key is None.

    The context is what both sides agree on for one connection, so that frames recorded there are
    refused elsewhere. Within a stream, versions and sequence numbers refuse what was moved or repeated.

    Raises:
      TypeError, ValueError: the key is not bytes, or shorter than 16.
    """

    def __init__(self, key: bytes | None, context: bytes = b"") -> None:
        if key is not None and not isinstance(key, bytes):
            raise TypeError(f"key must be bytes or None; got {type(key).__name__}.")
        if key is not None and len(key) < MIN_KEY:
            raise ValueError(f"key must have at least {MIN_KEY} bytes; got {len(key)}. Use secrets.token_bytes(32).")
        self._key, self._context = key, context
        self.tag_bytes = 0 if key is None else hashlib.sha256().digest_size

    def tag(self, frame: Bytes) -> bytes:
        if self._key is None:
            return b""
        code = hmac.new(self._key, self._context, hashlib.sha256)
        code.update(frame)
        return code.digest()

    def check(self, frame: Bytes, tag: Bytes) -> None:
        """Raises PacketError unless the tag is this frame's, under this key and context."""
        if not hmac.compare_digest(self.tag(frame), bytes(tag)):
            raise PacketError("a frame's HMAC does not match: it is forged, damaged, or sealed with another key.")
