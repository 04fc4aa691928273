"""How a program ends on Ctrl-C (SIGINT) or SIGTERM: after the step under way, and at once on a second Ctrl-C.

    with ending_on_signals():                       a signal ends what runs here at once, by Stopped …
        with current().noting():                    … in here it waits; a second Ctrl-C does not
            for batch in batches: …
                if current().wanted(exchange): …    … and ends the loop between steps, on all ranks

Each step's agreement between ranks carries the wish to end (RankGroup.wish), so all stop after the same step. Who
hears of signals stands in listening.py.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import threading
import time
from _thread import start_new_thread
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from recis_core.channel.rank_group import RankGroup
    from recis_core.table.exchange_interface import Exchange

T = TypeVar("T")

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
ECHO = 2.0  # seconds; torchrun hands its Ctrl-C on to workers, which have got the terminal's already
SOON = 0.001  # seconds until a signal that was lost is sent anew
PATIENCE = 2.0  # seconds that the main thread has to end by itself, where a signal ends it at once
SHOW_CURSOR = "\x1b[?25h"  # which a progress bar has hidden


class Stopped(BaseException):
    """A signal ends the program's work here."""


class Ending:
    """The signals that a program got, and how far it has come.

    asked: the number of the signal that ends it; 0 for none. hurried: a second Ctrl-C ends it at once. done: words for
    how far it came. unfinished: files and folders to remove where the process ends without unwinding.
    """

    def __init__(self) -> None:
        self.asked, self.hurried, self.done = 0, False, "nothing was done"
        self._at_once, self._interrupts, self._closed = True, 0, False
        self._interrupted_at: float | None = None
        self._group: RankGroup | None = None
        self._lost, self._listens, self._sending = False, False, threading.Lock()
        self.unfinished: set[str] = set()

    def hear(self, number: int, frame: FrameType | None) -> None:
        """A signal's handler."""
        if self._closed:
            return
        if self._lost:  # sent anew by `again`
            self._lost = False
            if self.hurried or self._at_once:
                raise Stopped
            return
        if self.hurried:
            return
        first = not self.asked
        again = number == signal.SIGINT and self._again(first)
        self.asked = number if first or again else self.asked
        if self._group is not None:
            self._group.wish = self.asked
        if again or (first and self._at_once):
            self.hurried = again
            raise Stopped

    def _again(self, first: bool) -> bool:
        """Whether this Ctrl-C is the second one. Two that Python hands on as one were counted by `watch`."""
        echo = self._is_echo()
        return self._interrupts > 1 or not (first or echo)

    def _is_echo(self) -> bool:
        """Whether torchrun repeats a Ctrl-C with this one, or this is the first."""
        now = time.monotonic()
        if self._interrupted_at is None:
            self._interrupted_at = now
        return "TORCHELASTIC_RUN_ID" in os.environ and now - self._interrupted_at < ECHO

    def again(self) -> None:
        """Send the last signal once more, uncounted: what it raised was lost inside of a callback that Python calls.

        What is raised in a callback of the garbage collector or of a weak reference, in `__del__`, or in a function that C
        calls by ctypes, goes to sys.unraisablehook, and the work that was to end goes on.
        """
        self._lost = True
        start_new_thread(self._send_again, ())  # a threading.Thread takes locks, which the main thread may hold here

    def close(self) -> None:
        """Ignore signals from here on."""
        self._closed = True

    def forget(self) -> None:
        """Clear the wish to end, so that the next run in this process group goes on."""
        if self._group is not None:
            self._group.wish = self._group.largest_wish = 0

    def wanted(self, exchange: Exchange | None = None) -> bool:
        """Whether to end after this step; the same on all ranks of an exchange."""
        if exchange is None:
            return bool(self.asked)
        self._group = exchange.channel.group
        self._group.wish = self.asked
        self.asked = self.asked or self._group.largest_wish
        return bool(self._group.largest_wish)

    def check(self, exchange: Exchange | None = None) -> None:
        """Raises Stopped if `wanted`."""
        if self.wanted(exchange):
            raise Stopped

    @contextmanager
    def noting(self, noted: bool = True) -> Iterator[None]:
        """Inside, the first signal is noted, for `check` and `read`; with noted=False it ends the command at once."""
        before, self._at_once = self._at_once, not noted
        try:
            yield
        finally:
            self._at_once = before

    def read(self, batches: Iterable[T], exchange: Exchange | None = None) -> Iterator[T]:
        """The batches, until a signal comes; one process alone breaks off the wait for a batch."""
        source = iter(batches)
        while True:
            with self.noting(exchange is not None):
                self.check(exchange)
                batch = next(source, None)
            if batch is None:
                return
            yield batch

    def tell(self) -> None:
        """Say the last words, before the process ends without unwinding."""

    @property
    def status(self) -> int:
        return 128 + self.asked

    def watch(self, signals: socket.socket, over: threading.Event) -> None:
        """Until the socket closes: end the process where the main thread, inside a long call, does not hear of a signal
        that is to end it at once, or does not end after a second Ctrl-C."""
        while numbers := signals.recv(64):
            heard = [number for number in numbers if number in NAMES]
            with self._sending:
                for _ in range(heard.count(signal.SIGINT)):
                    echo = self._is_echo()
                    self._interrupts += not (self._interrupts and echo)
            hurried = self._interrupts > 1
            if not heard or self._closed or not (hurried or self._at_once) or over.wait(PATIENCE):
                continue
            if hurried or not (self.asked or self._closed):
                self.asked = signal.SIGINT if hurried else heard[0]
                self._leave()

    def _send_again(self) -> None:
        """On a thread of its own, when the main thread has left the callback."""
        time.sleep(SOON)
        with self._sending:
            if self._listens:
                self._interrupts -= self.asked == signal.SIGINT
                signal.pthread_kill(threading.main_thread().ident or 0, self.asked)

    def _leave(self) -> None:
        for path in tuple(self.unfinished):
            with suppress(OSError):
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        with suppress(OSError, ValueError):
            if sys.stdout.isatty():
                sys.stdout.write(SHOW_CURSOR)
                sys.stdout.flush()
            self.tell()
        os._exit(self.status)
