"""Ctrl-C and timeouts at random instants of a training step: each part of it happens or does not, and training goes on.

Beside the engine that is interrupted stands a twin that is not, and is led through what happened.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdam
from tests.contract.lived_in import Content
from tests.dropped import later_if_dropped

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
N = 64
# The first tables grow on the way; those of jax would compile programs anew for each size, and pallas' are interpreted.
ROWS = {"torch": 64, "numba": 64, "jax": 1 << 17, "pallas": 1 << 17}
TRIES = {"torch": 2000, "numba": 2000, "jax": 2000, "pallas": 200} if FULL else {"torch": 60, "numba": 60, "jax": 60}


class Interrupted(Exception):
    """What the signal's handler raises."""


class Alarm:
    """Raises within some seconds, once, and only inside `on`."""

    def __init__(self) -> None:
        self._armed = False
        self._before = signal.signal(signal.SIGALRM, self._raise)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self._armed and not later_if_dropped(frame):
            self._armed = False
            raise Interrupted

    @contextmanager
    def on(self, seconds: float) -> Iterator[None]:
        self._armed = True
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            yield
        finally:
            self._armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def close(self) -> None:
        signal.signal(signal.SIGALRM, self._before)


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    alarm = Alarm()
    yield alarm
    alarm.close()


class Trained:
    """An engine of one table with its optimizer."""

    def __init__(self, backend: str) -> None:
        option = EmbeddingOption(4, block_size=ROWS[backend], backend=backend, combiner="sum")
        self.engine = EmbeddingEngine({"a": option})
        self.optimizer = SparseAdam(self.engine.sparse_parameters(), lr=0.1)

    @property
    def content(self) -> tuple[Content, int]:
        table = self.engine.table("a").physical
        return Content(table.export(), table.counters()), table.step

    @property
    def has_gradient(self) -> bool:
        return bool(self.engine.table("a").physical.has_gradient)

    def forward(self, ids: Tensor) -> Tensor:
        return self.engine({"a": ids})["a"]

    def step(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()


class Pair:
    """An engine that is interrupted, and its twin."""

    def __init__(self, backend: str, alarm: Alarm) -> None:
        self.tried, self.twin, self.alarm = Trained(backend), Trained(backend), alarm
        self.interrupts = 0
        self.seconds: dict[str, float] = {}

    def reached(self, part: str, call: Callable[[], Any]) -> Any:
        """What the call gives; None if it was interrupted. The instant is drawn by how long such calls take."""
        beg = time.perf_counter()
        try:
            with self.alarm.on(random.uniform(1e-6, 1.2 * self.seconds.get(part, 1e-3))):
                result = call()
        except Interrupted:
            self.interrupts += 1
            return None
        self.seconds[part] = min(time.perf_counter() - beg, 2 * self.seconds.get(part, 1.0))
        return result

    def same(self) -> bool:
        return self.tried.content == self.twin.content

    def step(self, ids: Tensor) -> None:
        out = self.reached("forward", lambda: self.tried.forward(ids))
        if out is None:
            if not self.same():
                self.twin.forward(ids)
            assert self.same(), "a forward happened in part"
            return
        theirs = self.twin.forward(ids)
        assert torch.equal(out, theirs)
        self.reached("backward", lambda: (out - 1).square().sum().backward() or True)
        if self.tried.has_gradient:
            (theirs - 1).square().sum().backward()
        assert self.same(), "a backward changed rows"
        self.reached("step", lambda: self.tried.step() or True)
        if not self.same():
            self.twin.step()
        assert self.same(), "a step happened in part"
        for engine in (self.tried, self.twin):
            engine.optimizer.zero_grad()


@pytest.mark.parametrize("backend", TRIES)
def test_interrupted_steps(backend: str, alarm: Alarm) -> None:
    warm = Trained(backend)  # what the first step imports and compiles takes no signal for its own
    warm.forward(torch.arange(N)).sum().backward()
    warm.step()
    random.seed(7)
    draw, pair = np.random.default_rng(7), Pair(backend, alarm)
    for k in range(TRIES[backend]):
        pair.step(torch.from_numpy(draw.integers(0, 40 * (k + 2), N)))
    assert pair.interrupts >= TRIES[backend] // 20, "instants were drawn past the calls' ends"
    fresh, ids = Trained(backend), torch.arange(-N, 0)
    assert torch.equal(pair.tried.forward(ids), fresh.forward(ids)), "new ids begin as ever"
