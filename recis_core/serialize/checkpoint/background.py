"""Work that a thread does in order, while the caller goes on."""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable

from recis_core.process import generation, refuse_in_child
from recis_core.uninterrupted import in_steps, uninterrupted

log = logging.getLogger(__name__)


class Background:
    """At most `most` jobs wait or run. The thread keeps the process alive until all are done, and ends when none is left.

    A job's error waits for `take_failure`; one that nobody took is logged when the process ends.
    """

    def __init__(self, most: int) -> None:
        self._most, self._jobs = most, deque[Callable[[], None]]()
        self._changed, self._works = threading.Condition(), False
        self._failures: list[BaseException] = []
        self._made = generation()
        atexit.register(_tell_of, weakref.ref(self))

    def submit(self, job: Callable[[], None]) -> None:
        """Waits while there are too many."""
        if self._made != generation():
            refuse_in_child("this CheckpointManager", self._made)
        self._until(lambda: len(self._jobs) < self._most)
        with uninterrupted(), self._changed:
            self._jobs.append(job)
            if not self._works:
                threading.Thread(target=self._work, name="recis-checkpoints", daemon=False).start()
                self._works = True

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._jobs:
                    self._works = False
                    return
                job = self._jobs[0]
            self._run(job)
            with self._changed:
                self._jobs.popleft()
                self._changed.notify_all()

    def _run(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # raised by take_failure
            self._failures.append(error)

    def wait(self) -> None:
        """Until no job is left; an interrupt ends the wait, and the jobs go on."""
        self._until(lambda: not self._jobs)

    def _until(self, ready: Callable[[], bool]) -> None:
        def some(seconds: float) -> bool:
            with self._changed:
                return self._changed.wait_for(ready, seconds)

        in_steps(some)

    @property
    def failed(self) -> bool:
        return bool(self._failures)

    def take_failure(self) -> BaseException | None:
        """The first error since the last call; later ones, which often follow from it, are its notes."""
        if not self._failures:
            return None
        first, *others = self._failures
        self._failures = []
        for error in others:
            first.add_note(f"A later save failed, too: {type(error).__name__}: {error}")
        return first


def _tell_of(background: weakref.ref[Background]) -> None:
    alive = background()
    if alive is not None and (error := alive.take_failure()) is not None:
        log.error("A checkpoint was not saved: %s: %s", type(error).__name__, error, exc_info=error)
