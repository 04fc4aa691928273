"""Follows a stream of versions into a RowStore."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Protocol

from recis_core.backends.errors import PacketError
from recis_core.packets.encoded_packet import open_packet
from recis_core.packets.packet_frame import Bytes
from recis_core.serving.delta_writer import Position
from recis_core.serving.row_store import RowStore

PACKET_LIMIT = 1 << 25


class Source(Protocol):
    """Where frames come from.

    It may have an attribute `writer`, which changes where another writer's frames begin: what had come of a version
    is then dropped.
    """

    def frames(self, timeout: float, position: Callable[[], Position]) -> Iterator[Bytes]:
        """Whole frames, in order, until none came for what is left of `timeout` seconds. They are not changed afterwards.

        position: what the reader has, told to a writer that asks.

        Raises:
          PacketError: a frame is damaged, too long, or not sealed with the key.
        """
        ...

    def refuse(self) -> None:
        """What came could not be used; where the source can, it lets the writer know."""
        ...


class DeltaReader:
    """Applies a source's versions in order to a store, which says what it may hold.

    Args:
      max_bytes: what one packet may take once decoded. DeltaWriter's take 24 MiB at most.
    """

    def __init__(self, store: RowStore, source: Source, *, max_bytes: int = PACKET_LIMIT) -> None:
        self.store, self._source, self._max_bytes = store, source, max_bytes
        self._writer: object = getattr(source, "writer", None)

    def poll(self, timeout: float = 0.0) -> int:
        """Apply what has come; wait up to `timeout` seconds for more. Returns the store's version.

        Raises:
          StreamGap: a version does not follow; later polls go on, and a snapshot mends it.
          PacketError: a frame is damaged or refused; the store stays at its version.
        """
        return self._advance(timeout, lambda version: False)

    def wait_for(self, version: int, timeout: float) -> int:
        """Poll until the store is at `version` or past it.

        Raises:
          TimeoutError: it did not get there. StreamGap, PacketError: as poll.
        """
        at = self._advance(timeout, lambda now: now >= version)
        if at < version:
            raise TimeoutError(f"version {version} did not come within {timeout} s; the store is at {at}.")
        return at

    def _advance(self, timeout: float, enough: Callable[[int], bool]) -> int:
        deadline = time.monotonic() + timeout
        try:
            while not enough(self.store.version):
                with closing(self._frames(max(0.0, deadline - time.monotonic()))) as frames:
                    for frame in frames:
                        if enough(self._apply(frame)):
                            break
                if time.monotonic() >= deadline:
                    break
        except PacketError:
            self._source.refuse()
            self.store.abandon()
            raise
        return self.store.version

    def _frames(self, timeout: float) -> Generator[Bytes]:
        yield from self._source.frames(timeout, self.store.position)

    def _apply(self, frame: Bytes) -> int:
        writer = getattr(self._source, "writer", None)
        if writer != self._writer:
            self._writer = writer
            self.store.abandon()
        return self.store.apply(open_packet(frame, max_bytes=self._max_bytes))
