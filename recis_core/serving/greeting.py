"""How the two sides of a TCP stream meet, before any frame. Numbers little-endian.

    reader ─▶ "RECISGRT" · nonce (16) · stream (16) · version (8)   what it has; with a key "RECISGRK", and zeros for it
    writer ─▶ "RECISANS" · nonce (16) · tag (32)
    reader ─▶ "RECISWLC" · stream (16) · version (8) · tag (32)     what it has

With a key each tag is an HMAC over all that was said before, both nonces in it, under a label of its
side; without one it is zeros. So each side shows the key, nothing said on one connection is of use on
another, and the HMAC of each frame is bound to both nonces. Frames that follow a greeting without
an answer are taken where there is no key.
"""

from __future__ import annotations

import os
import struct

from recis_core.backends.errors import PacketError
from recis_core.packets.packet_frame import PREAMBLE_BYTES, Bytes, check_beginning, read_preamble
from recis_core.serving.authentication import Seal
from recis_core.serving.delta_writer import Position

_GREETING, _ANSWER, _WELCOME = struct.Struct("<8s16s16sQ"), struct.Struct("<8s16s32s"), struct.Struct("<8s16sQ32s")
GREETING_BYTES, ANSWER_BYTES, WELCOME_BYTES = _GREETING.size, _ANSWER.size, _WELCOME.size
HELLO, HELLO_WITH_KEY, ANSWER, WELCOME = b"RECISGRT", b"RECISGRK", b"RECISANS", b"RECISWLC"
NONCE, TAG = 16, 32


def _tag(key: bytes | None, label: bytes, said: bytes) -> bytes:
    return Seal(key, label).tag(said).ljust(TAG, b"\0")


def _check_tag(key: bytes | None, label: bytes, said: bytes, tag: bytes) -> None:
    if key is not None:
        Seal(key, label).check(said, tag)


class ReadersGreeting:
    """The reader's side of one connection: bytes in, bytes out, and at last the seal of its frames."""

    def __init__(self, key: bytes | None, has: Position) -> None:
        self._key = key
        hello, told = (HELLO, has) if key is None else (HELLO_WITH_KEY, (b"", 0))
        self.greeting = _GREETING.pack(hello, os.urandom(NONCE), *told)
        self.seal = Seal(key)
        self.welcome: bytes | None = None  # to send where the writer answered
        self.rest = b""  # what came of the first frame

    def take(self, came: bytes, has: Position) -> bool:
        """Whether all bytes that came so far make a writer of the other side.

        Raises:
          PacketError: they do not and will not.
        """
        if self._key is None and not ANSWER.startswith(came[: len(ANSWER)]):
            return self._take_frame(came)
        if not ANSWER.startswith(came[: len(ANSWER)]):
            raise PacketError(f"a writer answers with {ANSWER!r}, then its HMAC; got {came[: len(ANSWER)]!r}.")
        if len(came) < ANSWER_BYTES:
            return False
        answer, self.rest = came[:ANSWER_BYTES], came[ANSWER_BYTES:]
        _, nonce, tag = _ANSWER.unpack(answer)
        _check_tag(self._key, b"recis writer", self.greeting + nonce, tag)
        self.welcome = _welcome(self._key, self.greeting + answer, has)
        self.seal = _frames_seal(self._key, self.greeting, nonce)
        return True

    def _take_frame(self, came: bytes) -> bool:
        check_beginning(came)
        self.rest = came
        if len(came) >= PREAMBLE_BYTES:
            read_preamble(came)
        return len(came) >= PREAMBLE_BYTES


def _welcome(key: bytes | None, said: bytes, has: Position) -> bytes:
    stream, version = has
    tag = _tag(key, b"recis reader", said + struct.pack("<16sQ", stream, version))
    return _WELCOME.pack(WELCOME, stream, version, tag)


def _frames_seal(key: bytes | None, greeting: bytes, nonce: bytes) -> Seal:
    return Seal(key, b"recis frames" + greeting + nonce)


class WritersGreeting:
    """The writer's side: it reads GREETING_BYTES, sends `answer`, reads WELCOME_BYTES."""

    def __init__(self, key: bytes | None, greeting: bytes, peer: object) -> None:
        """Raises PacketError where it is no reader's greeting, or only one side has a key."""
        hello = greeting[: len(HELLO)]
        if hello not in (HELLO, HELLO_WITH_KEY):
            raise PacketError(f"{peer} greets with {hello!r}; a recis-core reader says {HELLO!r}.")
        if (hello == HELLO_WITH_KEY) != (key is not None):
            raise PacketError(
                f"{peer} greets {'without' if key else 'with'} a key, and this side has {'one' if key else 'none'}. "
                "Give both sides the same key=."
            )
        self._key, self._greeting, self._peer = key, greeting, peer
        nonce = os.urandom(NONCE)
        self.answer = _ANSWER.pack(ANSWER, nonce, _tag(key, b"recis writer", greeting + nonce))
        self.seal = _frames_seal(key, greeting, nonce)

    def welcomed(self, welcome: Bytes) -> Position:
        """What the reader has. Raises PacketError where the reader does not show the key."""
        word, stream, version, tag = _WELCOME.unpack(welcome)
        if word != WELCOME:
            raise PacketError(f"{self._peer} greets and then says {word!r}; a recis-core reader says {WELCOME!r}.")
        said = self._greeting + self.answer + struct.pack("<16sQ", stream, version)
        _check_tag(self._key, b"recis reader", said, tag)
        return (stream if version else b"", version)
