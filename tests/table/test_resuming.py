"""Saved states with hooks: a run that stops and goes on is as one that did not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from recis_core.nn import EmbeddingEngine
from recis_core.optim import SparseAdam
from recis_core.serialize import SavedState, save_state
from recis_core.serialize.tables import restore_tables, snapshot_tables
from tests.contract.compare import assert_same, assert_same_table
from tests.table.admitting import engine_of


def _run(engine: EmbeddingEngine, optimizer: SparseAdam, steps: range) -> None:
    for step in steps:
        rng = np.random.default_rng(step)
        features = {n: torch.from_numpy(np.minimum(rng.zipf(1.3, 40), 60) + rng.integers(0, 3)) for n in ("f", "g")}
        sum(out.square().sum() for out in engine(features).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 3 == 0:
            engine.evict()


def _made(**hooks: Any) -> tuple[EmbeddingEngine, SparseAdam]:
    engine = engine_of(["f", "g"], backend="numba", **hooks)
    return engine, SparseAdam(engine.sparse_parameters(), lr=0.1)


@pytest.mark.parametrize(
    "hooks",
    [
        {"admit_hook": "frequency(4)", "filter_hook": "lfu(12,decay=.5)"},
        {"admit_hook": "frequency(4,counter=bloom,bytes=128,halve_every=5)", "filter_hook": "step(2)"},
        {"admit_hook": "probability(.3)", "filter_hook": "ttl(5)"},
    ],
    ids=lambda hooks: "-".join(text.split("(")[0] for text in hooks.values()),
)
def test_resumed(hooks: dict[str, str], tmp_path) -> None:
    whole, stopped, resumed = _made(**hooks), _made(**hooks), _made(**hooks)
    clock = [0.0]
    for engine, _ in (whole, stopped, resumed):
        if "ttl" in hooks["filter_hook"]:
            engine.table("f").physical.eviction.filter.now = _ticking(clock)
    _run(*whole, range(14))
    clock[0] = 0.0
    _run(*stopped, range(7))
    save_state(
        str(tmp_path), 7, {"optimizer": stopped[1].state_dict(), **snapshot_tables(stopped[0].sparse_parameters())}
    )
    state = SavedState(next(tmp_path.iterdir()))
    resumed[1].load_state_dict(state["optimizer"])
    restore_tables(resumed[0].sparse_parameters(), state)
    _run(*resumed, range(7, 14))
    mine, theirs = (engine.table("f").physical for engine, _ in (resumed, whole))
    assert_same_table(mine.export(), theirs.export())
    assert 5 < len(mine.export().ids) < 120
    _assert_equal(mine.storage.gate.policy.state(), theirs.storage.gate.policy.state())
    _assert_equal(mine.eviction.state(), theirs.eviction.state())


def _ticking(clock: list[float]):
    def now() -> float:
        clock[0] += 1.0
        return clock[0]

    return now


def _assert_equal(got: Any, want: Any) -> None:
    if isinstance(want, torch.Tensor):
        assert_same("state", got, want)
    elif isinstance(want, dict | list):
        assert len(got) == len(want)
        for key in want if isinstance(want, dict) else range(len(want)):
            _assert_equal(got[key], want[key])
    else:
        assert got == want


@pytest.mark.parametrize("counter", ["exact", "bloom,bytes=100000"])
def test_counts_go_where_rows_go(counter: str) -> None:
    """Into storage that holds the tables in another order."""
    hook = f"frequency(3,counter={counter})"
    engine, _ = _made(admit_hook=hook)
    engine({"f": torch.tensor([1, 1, 2]), "g": torch.tensor([2, 2, 2])})
    engine({"f": torch.tensor([7]), "g": torch.tensor([5, 5])})
    saved = snapshot_tables(engine.sparse_parameters())
    target = engine_of(["g", "f"], backend="numba", admit_hook=hook)
    restore_tables(target.sparse_parameters(), saved)
    target({"g": torch.tensor([5, 1]), "f": torch.tensor([1, 2])})
    assert (target.table("g").ids().tolist(), target.table("f").ids().tolist()) == ([2, 5], [1])
