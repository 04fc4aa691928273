"""A stream over TCP: the serving side listens, the training side connects.

The reader greets: "RECISGRT" · 16 random bytes · stream (16) · u64 version that it has. Frames follow, one way.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator

from backends.errors import PacketError
from recis_core.exchange.authentication import Seal
from recis_core.exchange.delta_writer import Position
from recis_core.exchange.frame import PREAMBLE_BYTES, check_beginning, read_preamble
from recis_core.exchange.packet_bytes import read_header

LOOPBACK = "127.0.0.1"
FRAME_LIMIT = 1 << 28
CHUNK = 1 << 20
_GREETING = struct.Struct("<8s16s16sQ")
_HELLO = b"RECISGRT"
_log = logging.getLogger(__name__)


class SocketSink:
    """Sends versions to a SocketSource, and connects again where that was lost.

    Args:
      key: of at least 16 bytes, the same on both sides; each frame then carries an HMAC bound to this connection.
      timeout: seconds for connecting, greeting and each send.
    """

    def __init__(self, port: int, host: str = LOOPBACK, *, key: bytes | None = None, timeout: float = 30.0) -> None:
        self._address, self._key, self._timeout = (host, port), key, timeout
        self._seal = Seal(key)
        self._socket: socket.socket | None = None
        self._holds: Position = (b"", 0)

    def holds(self) -> Position:
        """What the reader has. Raises OSError where none listens, PacketError where it is no reader of ours."""
        if self._socket is None or _hung_up(self._socket):
            self.close()
            self._socket = socket.create_connection(self._address, self._timeout)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a version's end must not wait
            try:
                self._be_greeted(self._socket)
            except BaseException:
                self.close()
                raise
        return self._holds

    def _be_greeted(self, peer: socket.socket) -> None:
        hello, nonce, stream, version = _GREETING.unpack(_exactly(peer, _GREETING.size))
        if hello != _HELLO:
            raise PacketError(f"{self._address} greets with {hello!r}; a recis-core reader says {_HELLO!r}.")
        self._seal = Seal(self._key, nonce)
        self._holds = (stream if version else b"", version)

    def send(self, frames: Iterable[bytes]) -> None:
        if self._socket is None:
            raise ConnectionError("not connected; ask holds() first, which says what the reader needs.")
        peer = self._socket
        try:
            for frame in frames:
                peer.sendall(frame)
                peer.sendall(self._seal.tag(frame))
        except BaseException:
            self.close()
            raise
        header = read_header(frame)
        self._holds = (header.stream, header.version)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class SocketSource:
    """Listens for one SocketSink at a time; a newer connection takes the place of an older one.

    Args:
      port: 0 lets the system choose; see `.port`.
      host: 127.0.0.1 unless told otherwise. Elsewhere, give a key: what comes is believed.
      max_frame_bytes: a longer frame is refused before it is read.
    """

    def __init__(
        self, port: int = 0, host: str = LOOPBACK, *, key: bytes | None = None, max_frame_bytes: int = FRAME_LIMIT
    ) -> None:
        self._key, self._seal, self._max_frame = key, Seal(key), max_frame_bytes
        if key is None and host != LOOPBACK:
            _log.warning("listening on %s without a key: whoever reaches it can write rows", host)
        self._listener = socket.create_server((host, port), backlog=1)
        self.port: int = self._listener.getsockname()[1]
        self._peer: socket.socket | None = None
        self._buffer = bytearray()

    def frames(self, timeout: float, position: Callable[[], Position]) -> Iterator[bytes]:
        deadline = time.monotonic() + timeout
        while True:
            while (frame := self._next_frame()) is not None:
                yield frame
            if not self._receive(max(0.0, deadline - time.monotonic()), position):
                return

    def _next_frame(self) -> bytes | None:
        check_beginning(self._buffer)
        if len(self._buffer) < PREAMBLE_BYTES:
            return None
        total = read_preamble(self._buffer).total
        end = total + self._seal.tag_bytes
        if end > self._max_frame:
            raise PacketError(f"a frame may have {self._max_frame} bytes; one of {end} was announced. Raise the bound.")
        if len(self._buffer) < end:
            return None
        frame, tag = bytes(self._buffer[:total]), bytes(self._buffer[total:end])
        del self._buffer[:end]
        self._seal.check(frame, tag)
        return frame

    def _receive(self, timeout: float, position: Callable[[], Position]) -> bool:
        """Whether something came: a connection, bytes, or the end of one."""
        watched = [self._listener] + ([self._peer] if self._peer else [])
        ready, _, _ = select.select(watched, [], [], timeout)
        if self._listener in ready:
            self._accept(position)
        elif self._peer in ready:
            self._read(self._peer)
        return bool(ready)

    def _accept(self, position: Callable[[], Position]) -> None:
        self.refuse()
        self._peer, _ = self._listener.accept()
        nonce = os.urandom(16)
        self._seal = Seal(self._key, nonce)
        try:
            self._peer.sendall(_GREETING.pack(_HELLO, nonce, *position()))
        except OSError:
            self.refuse()

    def _read(self, peer: socket.socket) -> None:
        try:
            chunk = peer.recv(CHUNK)
        except OSError as error:
            _log.warning("the stream's connection broke: %s", error)
            chunk = b""
        if chunk:
            self._buffer += chunk
        else:
            self.refuse()

    def refuse(self) -> None:
        """Hang up, and forget what came in part: the writer connects again and is told what is here."""
        if self._peer is not None:
            self._peer.close()
        self._peer = None
        self._buffer.clear()

    def close(self) -> None:
        self.refuse()
        self._listener.close()


def _hung_up(peer: socket.socket) -> bool:
    """A reader never sends after its greeting, so anything readable is the end."""
    return bool(select.select([peer], [], [], 0)[0])


def _exactly(peer: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = peer.recv(count - len(data))
        if not chunk:
            raise ConnectionError(f"the reader hung up after {len(data)} of the {count} bytes it greets with.")
        data += chunk
    return data
