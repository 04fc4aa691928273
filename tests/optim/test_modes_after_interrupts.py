"""An interrupt at any instant of a call leaves torch's gradient mode as it was.

CPython runs a signal's handler where a function begins and where one of C has returned; a profiler sees both.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from recis_core.framework.evaluation import evaluate
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdam, clip_grad_norm_, join
from recis_core.serialize.dense import dense_state, load_dense_state

INSTANTS = ("call", "c_return")


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.engine = EmbeddingEngine({"a": EmbeddingOption(2, backend="torch")})
        self.dense = torch.nn.Linear(2, 1)

    def forward(self, batch: Any) -> torch.Tensor:
        return self.dense(self.engine({"a": batch["a"]})["a"])[:, 0]


BATCH = {"a": torch.arange(4), "label": torch.tensor([0.0, 1.0, 0.0, 1.0])}


class Calls:
    """What a user calls that switches gradients off, or on for a closure."""

    def __init__(self) -> None:
        self.model = Model()
        self.sparse = SparseAdam(self.model.engine.sparse_parameters())
        self.both = join(torch.optim.Adam(self.model.dense.parameters()), self.sparse)
        self.loss()

    def loss(self) -> float:
        loss = self.model(BATCH).square().sum()
        loss.backward()
        return float(loss.detach())

    def step(self) -> Any:
        return self.sparse.step()

    def step_of_a_closure(self) -> Any:
        return self.sparse.step(self.loss)

    def joint_step(self) -> Any:
        return self.both.step()

    def joint_step_of_a_closure(self) -> Any:
        return self.both.step(self.loss)

    def clip(self) -> Any:
        return clip_grad_norm_(self.both, 1.0)

    def evaluate(self) -> Any:
        return evaluate(self.model, [BATCH])

    def load_dense(self) -> Any:
        return load_dense_state(self.model, dense_state(self.model))


@contextmanager
def signal_at(number: int) -> Iterator[list[int]]:
    """SIGINT at the number-th instant; what is yielded counts those that came."""
    seen = [0]

    def watch(frame: Any, event: str, arg: Any) -> None:
        if event in INSTANTS:
            seen[0] += 1
            if seen[0] == number:
                sys.setprofile(None)
                signal.raise_signal(signal.SIGINT)

    sys.setprofile(watch)
    try:
        yield seen
    finally:
        sys.setprofile(None)


def interrupted_everywhere(call: Callable[[], Any]) -> Iterator[int]:
    """Each instant at which the call was broken off, or whose signal waited for its end."""
    number = 1
    while True:
        broken_off = False
        try:
            with signal_at(number) as seen:
                call()
        except KeyboardInterrupt:
            broken_off = True
        if seen[0] < number:
            return
        assert broken_off, f"the signal of instant {number} is gone"
        yield number
        number += 1 + number // 40


@pytest.mark.parametrize("name", [name for name in vars(Calls) if not name.startswith("_") and name != "loss"])
def test_the_gradient_mode_stays(name: str) -> None:
    calls = Calls()
    instants = 0
    for instant in interrupted_everywhere(getattr(calls, name)):
        assert torch.is_grad_enabled(), f"{name} switched gradients off, interrupted at instant {instant}"
        instants += 1
    assert instants > 3
