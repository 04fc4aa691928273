"""Follows a stream of versions into a RowStore."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol

from backends.errors import PacketError
from recis_core.exchange.delta_writer import Position
from recis_core.exchange.packet import DECODED_LIMIT, decode
from recis_core.exchange.row_store import RowStore


class Source(Protocol):
    """Where frames come from."""

    def frames(self, timeout: float, position: Callable[[], Position]) -> Iterator[bytes]:
        """Whole frames, in order, until none came for what is left of `timeout` seconds.

        position: what the reader has, told to a writer that asks.

        Raises:
          PacketError: a frame is damaged, too long, or not sealed with the key.
        """
        ...

    def refuse(self) -> None:
        """What came could not be used; where the source can, it lets the writer know."""
        ...


class DeltaReader:
    """Applies a source's versions in order to a store.

    Args:
      max_bytes: what one packet may take once decoded.
    """

    def __init__(self, store: RowStore, source: Source, *, max_bytes: int = DECODED_LIMIT) -> None:
        self.store, self._source, self._max_bytes = store, source, max_bytes

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
                for frame in self._source.frames(max(0.0, deadline - time.monotonic()), self.store.position):
                    if enough(self.store.apply(decode(frame, max_bytes=self._max_bytes))):
                        break
                if time.monotonic() >= deadline:
                    break
        except PacketError:
            self._source.refuse()
            raise
        return self.store.version
