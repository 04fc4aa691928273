"""Notes of ranks in the process group's store: that a rank has left, or waits in vain, and where.

A rank that leaves writes why. A rank whose collective breaks off, or which waits for long, reads the notes: the transport
knows only that a connection is closed.

Sizes: W ranks.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing import util
from typing import Any, TypeVar

T = TypeVar("T")

JOINED, WAITS, LEFT = "joined", "waits", "left"
SECONDS = 2.0  # for a store to answer; the store of a rank that hangs never does


@dataclass(frozen=True)
class Note:
    """kind: JOINED, WAITS or LEFT. begun: collectives that the rank had begun. text: where, and why."""

    kind: str
    begun: int
    text: str


class Notes:
    """One note a rank; the last one counts.

    Args:
      store: of the process group. name: of the group, the same on all ranks.
    """

    def __init__(self, store: Any, name: str, rank: int) -> None:
        self._store, self._head, self.rank = store, f"recis/{name}/", rank
        self._process, self._gone = os.getpid(), False
        self.place, self.begun = "making the group", 0  # where this rank was last, in words, and in collectives

    def join(self, group: Any) -> None:
        """Note that this rank is here; once the group is destroyed or the process ends, that it has left."""
        self._write(JOINED, self.place)  # over the note of a former group of that name
        weakref.finalize(group, self._close)
        util.Finalize(None, self._close, exitpriority=100)  # a child of multiprocessing ends without atexit

    def _close(self) -> None:
        self.leave()
        self._store = None  # whoever made it may make another one, on the same port

    def leave(self, why: str | None = None) -> None:
        """Note that this rank takes part in nothing any more. The first reason stays. A forked child writes none."""
        if not self._gone and os.getpid() == self._process:
            self._gone = True
            self._write(LEFT, f"{why or _ending()}, after {self.place}")

    def wait_in_vain(self) -> None:
        if not self._gone:
            within(SECONDS, lambda: self._write(WAITS, self.place))

    def _write(self, kind: str, text: str) -> None:
        try:
            self._store.set(f"{self._head}{self.rank}", f"{kind} {self.begun} {text}")
        except Exception:  # the store's process may have ended first, and then nobody reads
            return

    def of(self, ranks: Iterable[int]) -> dict[int, Note] | None:
        """Notes of ranks that wait in vain or left; None if the store does not answer."""
        notes = within(SECONDS, lambda: {p: note for p in ranks if (note := self._read(p)) is not None})
        return None if notes is None else {p: note for p, note in notes.items() if note.kind != JOINED}

    def _read(self, rank: int) -> Note | None:
        key = f"{self._head}{rank}"
        if not self._store.check([key]):
            return None
        kind, begun, text = self._store.get(key).decode().split(" ", 2)
        return Note(kind, int(begun), text)


def _ending() -> str:
    error = getattr(sys, "last_value", None)  # sys.last_exc came with Python 3.12
    return "its process ended or destroyed its process group" if error is None else f"its process ended by {error!r}"


def within(seconds: float, work: Callable[[], T]) -> T | None:
    """What work() returns; None if it takes longer or raises."""
    found: list[T] = []

    def run() -> None:
        try:
            found.append(work())
        except Exception:  # a lost store may raise anything
            return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else None
