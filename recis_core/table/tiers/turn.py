"""Whose turn it is with a table's tiers: one thread's, of the process that has their disk open."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import Any

from recis_core.backends.errors import RecisError
from recis_core.uninterrupted import uninterrupted

WAY_OUT = 'Use the engine in its own process, or start this one by multiprocessing\'s method "spawn" and build an engine there.'


class Turn:
    """A reentrant lock, for `with`. Taking it first finishes what an exception broke off.

    Attributes:
      disk: the path of the rows on disk, once they were opened.
      unfinished: work that must be finished, and may be called again from its beginning; see `whole`.
    """

    def __init__(self) -> None:
        self._lock, self._process = RLock(), os.getpid()
        self.disk: Path | None = None
        self.unfinished: Callable[[], None] | None = None

    @property
    def forked(self) -> bool:
        """Whether this process was forked from the one that made the lock."""
        return os.getpid() != self._process

    def __enter__(self) -> None:
        if self.forked:
            self._enter_in_child()
        taken = False
        try:
            with uninterrupted():
                taken = self._lock.acquire()
                self._finish()
        except BaseException:
            if taken:
                self._lock.release()
            raise

    @property
    def __exit__(self) -> Callable[..., None]:
        """The inner lock's: `with` reads it before it enters, and no signal can come between the end and the release."""
        return self._lock.__exit__

    def owned(self) -> bool:
        """Whether this thread has it."""
        lock: Any = self._lock  # typeshed leaves the method out
        return bool(lock._is_owned())

    def whole(self, work: Callable[[], None]) -> None:
        """Do work that must not stay half done. If an exception breaks it off, it is repeated at once, or before the next turn.

        work: may be called again from its beginning, wherever it was broken off, and takes no turn. If it raises RecisError or
          OSError, it has changed nothing and is not repeated.
        """
        self._finish()
        try:
            self.unfinished = work
            self._finish()
        except BaseException:
            self._finish()
            raise

    def _finish(self) -> None:
        if self.unfinished is None:
            return
        try:
            self.unfinished()
        except (RecisError, OSError):
            self.unfinished = None
            raise
        self.unfinished = None

    def _enter_in_child(self) -> None:
        if self.disk is not None:
            raise RecisError(
                f"the rows that this engine has on disk, in {self.disk}, belong to process {self._process}; this is process "
                f"{os.getpid()}, forked from it, and changed nothing there. {WAY_OUT}"
            )
        if not self._lock.acquire(blocking=False):
            raise RecisError(
                f"process {os.getpid()} was forked from {self._process} while a thread there was changing this engine's tables. "
                f"{WAY_OUT}"
            )
        self._lock.release()
        self._process = os.getpid()
