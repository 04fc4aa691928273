"""The writing end of a TCP stream."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterable

from recis_core.packets.packet_bytes import read_header
from recis_core.serving.authentication import Seal
from recis_core.serving.delta_writer import Position
from recis_core.serving.greeting import GREETING_BYTES, WELCOME_BYTES, WritersGreeting

LOOPBACK = "127.0.0.1"
PACE = 1 << 22


class SocketSink:
    """Sends versions to a SocketSource, and connects again where that was lost.

    Args:
      key: of at least 16 bytes, the same on both sides. Each side then shows the other that it has it,
        and each frame carries an HMAC bound to this connection.
      timeout: seconds for connecting, greeting included, and for what a version may wait for the reader: that, and
        one more for each 4 MiB.
    """

    def __init__(self, port: int, host: str = LOOPBACK, *, key: bytes | None = None, timeout: float = 30.0) -> None:
        self._address, self._key, self._timeout = (host, port), key, timeout
        self._seal = Seal(key)
        self._socket: socket.socket | None = None
        self._holds: Position = (b"", 0)

    def holds(self) -> Position:
        """What the reader has.

        Raises:
          OSError: none listens, or it hung up; TimeoutError, which is one, where it took too long.
          PacketError: it is no reader of ours, or does not have the key.
        """
        if self._socket is None or _hung_up(self._socket):
            self.close()
            self._socket = self._connected(time.monotonic() + self._timeout)
        return self._holds

    def _connected(self, deadline: float) -> socket.socket:
        peer = _connect(self._address, deadline)
        try:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a version's end must not wait
            greeting = WritersGreeting(self._key, _exactly(peer, GREETING_BYTES, deadline), self._address)
            peer.settimeout(_left(deadline))
            peer.sendall(greeting.answer)
            self._holds = greeting.welcomed(_exactly(peer, WELCOME_BYTES, deadline))
        except BaseException:
            peer.close()
            raise
        self._seal = greeting.seal
        return peer

    def send(self, frames: Iterable[bytes]) -> None:
        if self._socket is None:
            raise ConnectionError("not connected; ask holds() first, which says what the reader needs.")
        try:
            last = self._sent(self._socket, frames)
        except BaseException:
            self.close()
            raise
        header = read_header(last)
        self._holds = (header.stream, header.version)

    def _sent(self, peer: socket.socket, frames: Iterable[bytes]) -> bytes:
        """The last frame. Making frames takes its own time; only waiting for the reader counts."""
        patience, frame = self._timeout, b""
        for frame in frames:
            start = time.monotonic()
            for part in (frame, self._seal.tag(frame)):
                peer.settimeout(_positive(patience - (time.monotonic() - start)))
                peer.sendall(part)
            patience += len(frame) / PACE - (time.monotonic() - start)
        return frame

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _connect(address: tuple[str, int], deadline: float) -> socket.socket:
    """To the first of the host's addresses that answers, all of them within the deadline."""
    refused: OSError = ConnectionError(f"{address} has no address.")
    for family, kind, protocol, _, target in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
        peer = socket.socket(family, kind, protocol)
        try:
            peer.settimeout(_left(deadline))
            peer.connect(target)
        except BaseException as error:
            peer.close()
            if not isinstance(error, OSError):
                raise
            refused = error
        else:
            return peer
    raise refused


def _left(deadline: float) -> float:
    return _positive(deadline - time.monotonic())


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise TimeoutError("timed out")
    return seconds


def _hung_up(peer: socket.socket) -> bool:
    """A reader never sends after its welcome, so anything readable is the end."""
    poll = select.poll()
    poll.register(peer, select.POLLIN)
    return bool(poll.poll(0))


def _exactly(peer: socket.socket, count: int, deadline: float) -> bytes:
    data = b""
    while len(data) < count:
        peer.settimeout(_left(deadline))
        chunk = peer.recv(count - len(data))
        if not chunk:
            raise ConnectionError(
                f"the reader hung up after {len(data)} of the {count} bytes it greets with; its key may be another."
            )
        data += chunk
    return data
