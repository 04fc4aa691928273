"""A signal that comes inside of a callback, where Python drops what is raised, ends the work all the same."""

from __future__ import annotations

import ctypes
import gc
import signal
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from recis_core.framework.ending import Ending, Stopped
from recis_core.framework.listening import current, listening

INT, TERM = signal.SIGINT, signal.SIGTERM
Work = Callable[[], None]


def of_the_collector(work: Work) -> None:
    def callback(phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            gc.callbacks.remove(callback)
            work()

    gc.callbacks.append(callback)
    gc.collect()


def of_an_object(work: Work) -> None:
    class Dying:
        def __del__(self) -> None:
            work()

    Dying()


def of_a_weak_reference(work: Work) -> None:
    class Dying:
        pass

    dying = Dying()
    kept = weakref.ref(dying, lambda ref: work())
    del dying
    assert kept() is None


def of_c(work: Work) -> None:
    compared = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    calls: list[int] = []

    def compare(a: int, b: int) -> int:
        calls.append(1)
        if len(calls) == 1:
            work()
        return 0

    numbers = (ctypes.c_int * 2)(2, 1)
    ctypes.CDLL(None).qsort(numbers, 2, ctypes.sizeof(ctypes.c_int), compared(compare))


CALLBACKS = [of_the_collector, of_an_object, of_a_weak_reference, of_c]


def sending(*numbers: int) -> Work:
    def work() -> None:
        for number in numbers:
            signal.raise_signal(number)

    return work


def waiting() -> None:
    """What is to end. Short sleeps, after which a handler runs."""
    for _ in range(5000):
        time.sleep(0.001)
    raise TimeoutError("the signal was lost")


@contextmanager
def stopping() -> Iterator[Ending]:
    hook = sys.unraisablehook
    with listening(Ending()) as ending, pytest.raises(Stopped):
        yield ending
    assert sys.unraisablehook is hook


@pytest.mark.parametrize("call", CALLBACKS)
@pytest.mark.parametrize("number", [INT, TERM])
def test_what_ends_at_once_ends_after_the_callback(call: Callable[[Work], None], number: int) -> None:
    with stopping() as ending:
        call(sending(number))
        waiting()
    assert (ending.asked, ending.hurried, ending._interrupts <= 1) == (number, False, True)


@pytest.mark.parametrize("call", CALLBACKS)
def test_a_second_ctrl_c_in_a_callback_ends_at_once(call: Callable[[Work], None]) -> None:
    with stopping() as ending, ending.noting():
        call(sending(INT))
        assert ending.asked == INT  # the first one is noted, and nothing is raised
        call(sending(INT))
        waiting()
    assert ending.hurried


def test_a_signal_that_was_lost_is_no_second_one() -> None:
    """A Ctrl-C that ended one part, sent anew in a part where signals are noted, hurries nothing."""
    with listening(Ending()) as ending:
        of_an_object(sending(INT))
        with current().noting():
            time.sleep(0.05)
        assert (ending.asked, ending.hurried, ending._interrupts) == (INT, False, 1)
        with pytest.raises(Stopped):
            ending.check()


def test_other_lost_errors_go_where_they_went(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(lost.exc_type))

    def failing() -> None:
        raise ZeroDivisionError

    with listening(Ending()):
        of_an_object(failing)
    assert told == [ZeroDivisionError]
