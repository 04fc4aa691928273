"""Signals at random instants of training steps on two ranks: both ranks keep the same tables, and each step was made or not.

A rank that is interrupted leaves its step; the other is told of it (ExchangeMismatch). Then both meet and go on. Rows lose
exactly 1 with each applied step that asked for them, so their values count the steps.
"""

from __future__ import annotations

import os
import random
import signal
from contextlib import suppress
from typing import Any

import pytest
import torch

from recis_core.backends.errors import ExchangeMismatch
from recis_core.channel import rank_group
from recis_core.nn import CacheConfig, EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseSGD
from recis_core.serialize import tables_sha256
from tests.exchange.ranks import run_ranks

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
ROUNDS = 1000 if FULL else 40
CACHES: dict[str, CacheConfig | None] = {"memory": None, "tiers": CacheConfig(device_rows=64, host_rows=10_000)}


class Alarm:
    """Raises KeyboardInterrupt once, after a random time."""

    def __init__(self, seed: int) -> None:
        self._random, self.raised, self._armed = random.Random(seed), 0, False
        signal.signal(signal.SIGALRM, self._ring)

    def arm(self) -> None:
        self._armed = True
        signal.setitimer(signal.ITIMER_REAL, 10 ** self._random.uniform(-4, -1.5))

    def disarm(self) -> None:
        self._armed = False

    def _ring(self, *_: Any) -> None:
        if self._armed:
            self._armed = False
            self.raised += 1
            raise KeyboardInterrupt


def interrupted(rank: int, world: int, cache: str, rounds: int) -> dict[str, Any]:
    rank_group.PATIENCE = 300.0  # a loaded machine must not make of a wait one that an interrupt ends
    option = EmbeddingOption(4, block_size=64, cache=CACHES[cache])
    engine = EmbeddingEngine({"a": option})
    optimizer = SparseSGD(engine.sparse_parameters(), lr=1.0)
    alarm, applied, steps = Alarm(rank), {}, []
    for k in range(rounds):
        ids = torch.randint(2**40, (30,), generator=torch.Generator().manual_seed(k // 2))
        before = optimizer.state_dict()["t"]["a"]
        with suppress(KeyboardInterrupt):  # which may come on the way to disarm()
            try:
                if k % 4:
                    alarm.arm()
                engine({"a": ids})["a"].sum().backward()
                optimizer.step()
            except ExchangeMismatch:
                pass
            alarm.disarm()
        meet(engine, optimizer)
        steps.append(optimizer.state_dict()["t"]["a"])
        made = steps[-1] - before
        for i in ids.tolist():
            applied[i] = applied.get(i, 0) + made
    table = engine.table("a")
    return {
        "steps": steps, "raised": alarm.raised, "applied": applied,
        "rows": dict(zip(table.ids().tolist(), table.embeddings()[:, 0].tolist(), strict=True)),
    }  # fmt: skip


def meet(engine: EmbeddingEngine, optimizer: SparseSGD) -> None:
    """Both ranks drop what waits and get through one call together; one that comes from within a step is told first."""
    met = False
    while not met:
        optimizer.zero_grad()
        with suppress(ExchangeMismatch):
            tables_sha256(engine.sparse_parameters())
            met = True


@pytest.mark.parametrize("cache", list(CACHES))
def test_ranks_that_are_interrupted_agree_and_lose_nothing(cache: str) -> None:
    ranks = run_ranks(2, interrupted, cache, ROUNDS)
    assert ranks[0]["steps"] == ranks[1]["steps"]
    assert ranks[0]["applied"] == ranks[1]["applied"]
    assert sum(one["raised"] for one in ranks) > ROUNDS // 2
    rows = {**ranks[0]["rows"], **ranks[1]["rows"]}
    begun = initial(list(rows))
    lost = {i: round(begun[i] - w, 3) for i, w in rows.items()}
    assert lost == {i: ranks[0]["applied"][i] for i in rows}
    assert any(ranks[0]["applied"].values())


def initial(ids: list[int]) -> dict[int, float]:
    """What rows begin as: of (seed, table, id) alone."""
    engine = EmbeddingEngine({"a": EmbeddingOption(4, backend="torch")})
    rows = engine({"a": torch.tensor(ids)})["a"][:, 0]
    return dict(zip(ids, rows.tolist(), strict=True))
