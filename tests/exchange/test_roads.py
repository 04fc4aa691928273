"""Other roads for the same bytes: inside a node first, or while backward still runs."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseSGD, join
from tests.exchange.ranks import run_ranks

STEPS = 4


def _engine(**how: Any) -> EmbeddingEngine:
    return EmbeddingEngine({"a": EmbeddingOption(6), "b": EmbeddingOption(4, precision="int8")}, **how)


def _ids(rank: int, step: int, n: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(100 * step + rank).integers(0, 50, n) * 2**33)


def train(rank: int, world: int, how: dict[str, bool]) -> tuple[dict[str, Any], dict[str, int], int]:
    """Unequal numbers of ids, none on rank 1 in step 2."""
    engine = _engine(**how)
    optimizer = SparseSGD(engine.sparse_parameters(), lr=0.5)
    for step in range(STEPS):
        n = 0 if (rank, step) == (1, 2) else 10 + 7 * rank
        out = engine({"a": _ids(rank, step, n), "b": _ids(rank, step, n) + 1})
        (out["a"].square().sum() + out["b"].sum()).backward()
        optimizer.step()
    rows = {n: (t.ids(), t.embeddings()) for n, t in engine.sparse_parameters().items()}
    hops = engine.exchange.channel.hops
    return rows, engine.exchange.stats(), 0 if hops is None else hops.sent_between


@cache
def flat(world: int) -> list[Any]:
    return run_ranks(world, train, {})


def _same(first: list[Any], second: list[Any]) -> None:
    for a, b in zip(first, second, strict=True):
        assert all(torch.equal(x, y) for n in a[0] for x, y in zip(a[0][n], b[0][n], strict=True))


@pytest.mark.parametrize(("world", "node"), [(4, 2), (3, 3), (3, 1)])
def test_two_hops_carry_the_same(world: int, node: int) -> None:
    hops = run_ranks(world, train, {"hierarchical": True}, env={"LOCAL_WORLD_SIZE": str(node)})
    _same(flat(world), hops)
    assert all((sent > 0) == (node < world) for _, _, sent in hops)


def test_sending_in_backward_learns_the_same() -> None:
    _same(flat(2), run_ranks(2, train, {"overlap": True}))


def odd_node(rank: int, world: int) -> str:
    try:
        _engine(hierarchical=True)
    except ValueError as error:
        return str(error)
    return "no error"


def test_a_node_that_does_not_divide_the_ranks() -> None:
    said = run_ranks(3, odd_node, env={"LOCAL_WORLD_SIZE": "2"})
    assert all("LOCAL_WORLD_SIZE to divide 3 ranks; got 2" in s for s in said)


def refused(rank: int, world: int) -> list[str]:
    """Overlap with error feedback, with accumulation, with a scaler."""
    said = []
    try:
        EmbeddingEngine({"a": EmbeddingOption(4, precision="int8+ef")}, overlap=True)
    except ValueError as error:
        said.append(str(error))
    engine = _engine(overlap=True)
    dense = torch.nn.Linear(6, 1)
    optimizer = join(torch.optim.SGD(dense.parameters(), lr=0.1), SparseSGD(engine.sparse_parameters(), lr=0.5))
    scaler = torch.amp.GradScaler("cpu")
    ids = {"a": _ids(rank, 0, 5), "b": _ids(rank, 0, 5)}
    for _ in range(2):
        try:
            scaler.scale(dense(engine(ids)["a"]).sum()).backward()
        except Exception as error:
            said.append(str(error))
    try:
        scaler.step(optimizer)
    except Exception as error:
        said.append(str(error))
    return said


def test_overlap_refuses_what_it_cannot() -> None:
    for said in run_ranks(2, refused):
        assert len(said) == 3
        assert "drop +ef or overlap" in said[0]
        assert "Accumulate without overlap" in said[1]
        assert "GradScaler" in said[2]
