"""A timer that rings inside a callback whose error Python would drop rings again behind it."""

from __future__ import annotations

import signal
import time
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from tests.dropped import later_if_dropped


class Rung(BaseException):
    pass


class Held:
    pass


def ring(number: int, frame: FrameType | None) -> None:
    if not later_if_dropped(frame):
        raise Rung


def in_a_weak_set() -> None:
    """Of 20,000 objects that go at once each calls back."""
    held = [Held() for _ in range(20_000)]
    there = weakref.WeakSet(held)
    held.clear()
    assert not there


def in_a_finalizer() -> None:
    class Slow:
        def __del__(self) -> None:
            time.sleep(0.003)

    Slow()


@pytest.mark.parametrize("work", [in_a_weak_set, in_a_finalizer])
def test_it_rings_in_the_end(work: Callable[[], Any]) -> None:
    before, rung = signal.signal(signal.SIGALRM, ring), 0
    try:
        for _ in range(20):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.001)
                while True:
                    work()
            except Rung:
                rung += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rung == 20
