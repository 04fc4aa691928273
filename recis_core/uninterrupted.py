"""Signals wait while a table changes.

Python runs a signal's handler between two instructions of the main thread; an exception of the handler, such as
KeyboardInterrupt, leaves the work half done. Inside `with uninterrupted():` handlers that are Python functions are
delayed. When the outermost section ends, they run in the order in which their signals came.

    with uninterrupted():          SIGINT ─▶ kept
        table.insert(…)
                                   ─▶ KeyboardInterrupt is raised here; the insert is whole

Other threads run no handlers, so a section costs them nothing. An exception of the work itself is raised as usual.
"""

from __future__ import annotations

import signal
import sys
import threading
import weakref

# The C functions: signal.getsignal makes an enum of each result, at fifty times the cost.
from _signal import getsignal as _handler_of
from _signal import signal as _handle
from collections.abc import Callable
from functools import wraps
from types import FrameType, TracebackType
from typing import Any, ParamSpec, TypeVar

Handler = Callable[[int, FrameType | None], Any]
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

STEP = 0.1  # seconds of a wait, and so how long a signal waits at most

_CATCHABLE = tuple(sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))
_replaced: dict[int, Handler] = {}  # the user's handlers, by signal number, that `_keep` replaces
_waiting: list[int] = []  # numbers of the signals that came, each once
_section: weakref.ref[uninterrupted] | None = None  # the outermost section, while it exists


class uninterrupted:  # noqa: N801, a context manager is used like a function
    """A section in which signals wait; sections nest."""

    __slots__ = ("__weakref__", "_outermost")

    def __init__(self) -> None:
        self._outermost = False

    def __enter__(self) -> None:
        global _section
        if threading.get_ident() != threading.main_thread().ident or _in_a_section():
            return
        try:
            # A weak reference: a section that was never entered must not delay signals.
            _section = weakref.ref(self)
            _replace_handlers()
        except BaseException:
            _section = None
            raise
        self._outermost = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _section
        if not self._outermost:
            return
        _section = None
        try:
            for number in tuple(_replaced):
                _put_back(number)
        finally:
            _deliver()


def as_one(function: Callable[P, R]) -> Callable[P, R]:
    """The function; each call is a section."""

    @wraps(function)
    def whole(*args: P.args, **kwargs: P.kwargs) -> R:
        if _in_a_section():  # the main thread's section; in other threads a section does nothing
            return function(*args, **kwargs)
        with uninterrupted():
            return function(*args, **kwargs)

    return whole


def in_steps(wait: Callable[[float], T | None]) -> T:
    """The first true result of wait(seconds), a wait for another thread of at most so long; signals come between waits.

    Inside a wait of threading.Condition, on which Event, Queue and Future rest, an exception may come while the lock is taken
    again: Python then raises RuntimeError("release unlocked lock") in place of KeyboardInterrupt.
    """
    while True:
        with uninterrupted():
            found = wait(STEP)
        if found:
            return found


def _replace_handlers() -> None:
    for number in _CATCHABLE:
        handler = _handler_of(number)
        if callable(handler) and handler is not _keep:
            _replaced[number] = handler
            _handle(number, _keep)


def _in_a_section() -> bool:
    return _section is not None and _section() is not None


def _keep(number: int, frame: FrameType | None) -> None:
    """Replaces the handlers. If an exception left it in place after a section, it restores the user's handler and calls it."""
    if _in_a_section():
        if number not in _waiting:
            _waiting.append(number)
        return
    handler = _put_back(number)
    if handler is not None:
        handler(number, frame)


def _put_back(number: int) -> Handler | None:
    handler = _replaced.get(number)
    if handler is not None and _handler_of(number) is _keep:
        _handle(number, handler)
    _replaced.pop(number, None)
    return handler


def deliver_waiting() -> None:
    """Inside a section, run the handlers of the signals that wait; an exception of a handler ends the section's work.

    For long waits at places where no work is half done.
    """
    if threading.get_ident() != threading.main_thread().ident:
        return
    while _waiting:
        number = _waiting.pop(0)
        handler = _replaced.get(number)
        if handler is not None:
            handler(number, sys._getframe())


def _deliver() -> None:
    """Run the handler of each signal that waited; if several raise, the last exception has the others as context.

    No signal is sent anew: whoever reads signal.set_wakeup_fd would count two.
    """
    if not _waiting:
        return
    try:
        number = _waiting.pop(0)
        handler = _handler_of(number)
        if callable(handler):
            handler(number, sys._getframe())
        else:  # another was set inside the section
            signal.raise_signal(number)
    finally:
        _deliver()
