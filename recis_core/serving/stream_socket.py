"""A stream over TCP: the serving side listens, the training side connects. greeting.py has how they meet.

Frames follow, one way. Whoever connects is greeted beside others and beside the writer that is connected; it takes the
writer's place when it has shown the key, or where there is none that it speaks as a writer does.
"""

from __future__ import annotations

import logging
import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from recis_core.backends.errors import PacketError
from recis_core.packets.packet_frame import PREAMBLE_BYTES, Bytes, check_beginning, read_preamble
from recis_core.serving.authentication import Seal
from recis_core.serving.delta_writer import Position
from recis_core.serving.greeting import ReadersGreeting
from recis_core.serving.stream_sink import LOOPBACK, SocketSink

__all__ = ["LOOPBACK", "SocketSink", "SocketSource"]
FRAME_LIMIT = 1 << 28
CHUNK = 1 << 20
DRAIN = 0.1
_log = logging.getLogger(__name__)


@dataclass
class Guest:
    """A connection that is being greeted."""

    peer: socket.socket
    name: str
    greeting: ReadersGreeting
    until: float
    came: bytes = b""


class SocketSource:
    """Listens for one SocketSink at a time; a newer one that has shown the key takes the place of an older one.

    Nothing happens between polls, and none waits for a single connection: those that are being
    greeted are bounded in number, bytes (64 each) and time, and closed past it. With a key they
    are logged, never raised; so whoever lacks it can neither stop the stream nor learn where it is.

    Args:
      port: 0 lets the system choose; see `.port`.
      host: 127.0.0.1 unless told otherwise. Elsewhere, give a key: what comes is believed.
      key: of at least 16 bytes, as the writer's.
      max_frame_bytes: a longer frame is refused before it is read.
      greeting_seconds: how long a connection may take to show what it is. max_greetings: how many may be doing so;
        past it the oldest goes.

    Raises:
      TypeError, ValueError: key is none. OSError: the port cannot be listened on.
    """

    def __init__(
        self,
        port: int = 0,
        host: str = LOOPBACK,
        *,
        key: bytes | None = None,
        max_frame_bytes: int = FRAME_LIMIT,
        greeting_seconds: float = 10.0,
        max_greetings: int = 64,
    ) -> None:
        self._key, self._seal, self._max_frame = key, Seal(key), max_frame_bytes
        self._greeting_seconds, self._max_greetings = greeting_seconds, max_greetings
        if key is None and host != LOOPBACK:
            _log.warning("listening on %s without a key: whoever reaches it can write rows", host)
        self._listener = socket.create_server((host, port), backlog=128)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.writer = 0  # counts the writers that were let in
        self._guests: list[Guest] = []
        self._peer: socket.socket | None = None
        self._buffer = bytearray()

    def frames(self, timeout: float, position: Callable[[], Position]) -> Iterator[Bytes]:
        start = time.monotonic()
        # What has come already is taken, but no writer that never pauses keeps a poll from its end.
        deadline, drained = start + timeout, start + max(timeout, DRAIN)
        while True:
            while (frame := self._next_frame()) is not None:
                yield frame
            now = time.monotonic()
            came = now < drained and self._receive(max(0.0, deadline - now), position)
            if not came and time.monotonic() >= deadline:
                return

    def _next_frame(self) -> Bytes | None:
        check_beginning(self._buffer)
        if len(self._buffer) < PREAMBLE_BYTES or len(self._buffer) < (end := self._frame_end()):
            return None
        # The buffer holds one frame and no more: it becomes the frame.
        frame, self._buffer = self._buffer, bytearray()
        tag = bytes(frame[end - self._seal.tag_bytes :])
        del frame[end - self._seal.tag_bytes :]
        self._seal.check(frame, tag)
        return frame

    def _frame_end(self) -> int:
        end = read_preamble(self._buffer).total + self._seal.tag_bytes
        if end > self._max_frame:
            raise PacketError(f"a frame may have {self._max_frame} bytes; one of {end} was announced. Raise the bound.")
        return end

    def _receive(self, timeout: float, position: Callable[[], Position]) -> bool:
        """Whether something came: a connection, bytes, or the end of one."""
        ready = self._ready(timeout)
        if self._peer is not None and self._peer.fileno() in ready:
            self._read(self._peer)
        for guest in [guest for guest in self._guests if guest.peer.fileno() in ready]:
            self._hear(guest, position)
        if self._listener.fileno() in ready:
            self._accept(position)
        self._dismiss_late()
        return bool(ready)

    def _ready(self, timeout: float) -> set[int]:
        """File numbers on which something came. Waits no longer than until a guest's time is up."""
        poll = select.poll()
        for watched in (self._listener, *(guest.peer for guest in self._guests), *([self._peer] if self._peer else [])):
            poll.register(watched, select.POLLIN)
        soonest = min((guest.until for guest in self._guests), default=float("inf")) - time.monotonic()
        return {number for number, _ in poll.poll(1000 * max(0.0, min(timeout, soonest)))}

    def _accept(self, position: Callable[[], Position]) -> None:
        for _ in range(self._max_greetings):
            try:
                peer, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                _log.warning("a connection could not be taken: %s", error)
                time.sleep(0.01)  # out of file numbers, it stays ready
                return
            self._greet(peer, f"{address[0]}:{address[1]}", position)

    def _greet(self, peer: socket.socket, name: str, position: Callable[[], Position]) -> None:
        if len(self._guests) >= self._max_greetings:
            self._dismiss(self._guests[0], "others came")
        guest = Guest(peer, name, ReadersGreeting(self._key, position()), time.monotonic() + self._greeting_seconds)
        self._guests.append(guest)
        try:
            peer.setblocking(False)
            peer.sendall(guest.greeting.greeting)
        except OSError as error:
            self._dismiss(guest, error)

    def _hear(self, guest: Guest, position: Callable[[], Position]) -> None:
        try:
            chunk = guest.peer.recv(PREAMBLE_BYTES - len(guest.came))
            guest.came += chunk
            if not chunk:
                self._dismiss(guest, "it hung up")
            elif guest.greeting.take(guest.came, position()):
                self._let_in(guest)
        except OSError as error:
            self._dismiss(guest, error)
        except PacketError as error:
            self._dismiss(guest, error)
            if self._key is None and self._peer is None:
                raise

    def _let_in(self, guest: Guest) -> None:
        """The writer from now on."""
        guest.peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if guest.greeting.welcome is not None:
            guest.peer.sendall(guest.greeting.welcome)
        self.refuse()
        self._guests.remove(guest)
        self.writer += 1
        self._peer, self._seal, self._buffer = guest.peer, guest.greeting.seal, bytearray(guest.greeting.rest)

    def _dismiss_late(self) -> None:
        now = time.monotonic()
        for guest in [guest for guest in self._guests if guest.until <= now]:
            self._dismiss(guest, "it took too long")

    def _dismiss(self, guest: Guest, why: object) -> None:
        _log.log(
            logging.WARNING if isinstance(why, PacketError) else logging.INFO, "%s is no writer: %s", guest.name, why
        )
        self._guests.remove(guest)
        guest.peer.close()

    def _read(self, peer: socket.socket) -> None:
        """Some of the frame under way, and nothing behind it."""
        try:
            wanted = PREAMBLE_BYTES if len(self._buffer) < PREAMBLE_BYTES else self._frame_end()
            chunk = peer.recv(min(CHUNK, wanted - len(self._buffer)))
        except BlockingIOError:
            return
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
        self._buffer = bytearray()

    def close(self) -> None:
        self.refuse()
        while self._guests:
            self._guests.pop().peer.close()
        self._listener.close()
