"""1, 2, 3 and 4 processes train the same global batches to the same tables."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from recis_core.exchange import global_mean
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from tests.exchange.models import Model, assert_same_tables, batch, optimizer_of, rows_of, share, united
from tests.exchange.ranks import run_ranks

STEPS = 6


def train(rank: int, world: int, option: dict[str, Any], kind: str = "adam", steps: int = STEPS) -> dict[str, Any]:
    """One training run; this rank's rows, losses over all ranks, and the tower."""
    model = Model(**option)
    optimizer = optimizer_of(model, kind)
    wrapped = DistributedDataParallel(model) if world > 1 else model
    losses = []
    for step in range(steps):
        data = batch(step, share(rank, world))
        summed = F.binary_cross_entropy_with_logits(wrapped(data), data["label"], reduction="sum")
        loss = global_mean(summed, len(data["label"]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    tower = torch.cat([p.detach().flatten() for p in model.tower.parameters()]).numpy()
    return {"rows": rows_of(model), "losses": losses, "tower": tower}


@cache
def together(world: int, kind: str = "adam", steps: int = STEPS, **option: Any) -> list[dict[str, Any]]:
    """What each rank of an undisturbed run returned, which many tests compare with: run once."""
    return run_ranks(world, train, option, kind, steps)


def alone(kind: str = "adam", steps: int = STEPS, **option: Any) -> dict[str, Any]:
    return together(1, kind, steps, **option)[0]


@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize("by", ["worker", "id"])
def test_the_same_tables(world: int, by: str) -> None:
    option = {"grad_reduce_by": by}
    want = alone(**option)
    ranks = together(world, **option)
    assert_same_tables(united([r["rows"] for r in ranks]), want["rows"])
    for r in ranks:
        np.testing.assert_allclose(r["tower"], want["tower"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.mean([r["losses"] for r in ranks], 0), want["losses"], rtol=1e-5)


def test_bits_repeat() -> None:
    first, second = (run_ranks(2, train, {}) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        for name, rows in a["rows"].items():
            assert rows.keys() == b["rows"][name].keys()
            assert all(np.array_equal(row, b["rows"][name][i]) for i, row in rows.items())
        assert np.array_equal(a["tower"], b["tower"])


@pytest.mark.parametrize("backend", ["torch", "jax", pytest.param("pallas", marks=pytest.mark.full)])
def test_every_backend(backend: str) -> None:
    """Rows as int8 and gradients as int4 with feedback: the same bytes, so the same tables as by numba's loops."""
    option = {"precision": "forward=int8,backward=int4+ef"}
    env = {"RECIS_BACKEND": backend, "RECIS_PALLAS_INTERPRET": "1", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    got = run_ranks(2, train, option, "sgd", 3, env=env)
    for mine, theirs in zip(got, together(2, "sgd", 3, **option), strict=True):
        assert_same_tables(mine["rows"], theirs["rows"])


def nan_row(rank: int, world: int) -> tuple[list[float], dict[str, int]]:
    """Rank 0 asks for a row that holds NaN and inf, and for a plain one."""
    engine = EmbeddingEngine({"f": EmbeddingOption(2, precision="int4")})
    ids = torch.arange(8)
    here = engine.table("f").physical.keeps(ids, 0)
    engine.table("f").insert(ids[here], torch.tensor([[float("nan"), float("inf")]]).expand(int(here.sum()), 2))
    engine.eval()
    out = engine({"f": ids})["f"]
    return out.flatten().tolist(), engine.exchange.stats()


def test_rows_that_are_not_finite_travel_exact_and_are_counted() -> None:
    for out, stats in run_ranks(2, nan_row):
        assert np.isnan(out[0::2]).all()
        assert np.isposinf(out[1::2]).all()
        assert stats["exact_rows"] > 0
    assert sum(stats["exact_rows"] for _, stats in run_ranks(2, nan_row)) == 8
