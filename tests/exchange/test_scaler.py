"""An unmodified GradScaler over dense and sparse: an inf on one rank, on either side, is a step that no rank takes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from recis_core.nn import EmbeddingEngine, EmbeddingOption, filter_out_sparse_param
from recis_core.optim import SparseAdam, join
from tests.exchange.models import Model, optimizer_of, rows_of
from tests.exchange.stages import WORLDS, Stage
from tests.training.on_ranks import assert_same_run, poison_tower, poisoned_rows, result, sharded, step, tower_of, train

SCALE = 2.0**10
STEPS, SPARSE, DENSE = 5, 1, 3  # in all, and where rows or the tower get an inf on the last rank


def _scaled(
    rank: int, world: int, wrapped: Any, model: Any, *, clip: float | None = None, optimizer: Any = None
) -> dict[str, Any]:
    optimizer = optimizer or optimizer_of(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
    last, losses, scales, moved = rank == world - 1, [], [], []
    for s in range(STEPS):
        before = tower_of(model), rows_of(model)
        with poisoned_rows(model, here=last and s == SPARSE):
            poison = (lambda: poison_tower(model)) if last and s == DENSE else (lambda: None)
            losses.append(step(wrapped, optimizer, s, rank, world, scaler=scaler, clip=clip, after_backward=poison))
        scales.append(scaler.get_scale())
        moved.append(_moved(before, model))
    return result(model, losses, scales=scales, moved=moved, t=optimizer.sparse.state_dict()["t"])


def _moved(before: tuple[np.ndarray, dict], model: Model) -> bool:
    """Whether the tower or a row that was there has changed; a skipped step's forward still inserts."""
    tower, tables = before
    now = rows_of(model)
    rows = [(row, now[name][i]) for name, mine in tables.items() for i, row in mine.items()]
    return not all(np.array_equal(a, b) for a, b in [(tower, tower_of(model)), *rows])


def ddp(rank: int, world: int) -> dict[str, Any]:
    model = Model()
    return _scaled(rank, world, DistributedDataParallel(model) if world > 1 else model, model)


def ddp_clipped(rank: int, world: int) -> dict[str, Any]:
    model = Model()
    return _scaled(rank, world, DistributedDataParallel(model) if world > 1 else model, model, clip=0.03)


def fsdp(rank: int, world: int) -> dict[str, Any]:
    model = sharded(Model(), "both") if world > 1 else Model()
    with warnings.catch_warnings():
        # A scaler hands all gradients of a dtype to one call; the sparse side's is none of the DTensors.
        warnings.filterwarnings("error", message=".*implicitly creating a replicated DTensor")
        return _scaled(rank, world, model, model)


def fsdp_clipped(rank: int, world: int) -> dict[str, Any]:
    model = sharded(Model()) if world > 1 else Model()
    return _scaled(rank, world, model, model, clip=0.03)


def autocast(rank: int, world: int) -> dict[str, Any]:
    model = Model()
    wrapped = DistributedDataParallel(model) if world > 1 else model
    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
    return result(model, train(wrapped, optimizer_of(model, "sgd", lr=10.0), rank, world, scaler=scaler, autocast=True))


def looked_at(rank: int, world: int) -> dict[str, Any]:
    """Someone reads all `.grad`s before backward, when there is none."""
    model = Model()
    optimizer, scaler = optimizer_of(model), torch.amp.GradScaler("cpu", init_scale=SCALE)
    wrapped = DistributedDataParallel(model) if world > 1 else model
    seen: list[bool] = []

    def look() -> None:
        seen.extend(p.grad is None for group in optimizer.param_groups for p in group["params"])

    losses = train(wrapped, optimizer, rank, world, scaler=scaler, before_backward=look)
    return result(model, losses, seen=seen)


class TwoEngines(nn.Module):
    """Each with an exchange of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = EmbeddingEngine({"user": EmbeddingOption(8)})
        self.second = EmbeddingEngine({"item": EmbeddingOption(8)})
        torch.manual_seed(0)
        self.tower = nn.Sequential(nn.Linear(16, 1))

    def forward(self, features: dict[str, Any]) -> Tensor:
        out = [engine({name: features[name]})[name] for engine, name in ((self.engine, "user"), (self.second, "item"))]
        return self.tower(torch.cat(out, 1)).squeeze(1)


def two_engines(rank: int, world: int) -> dict[str, Any]:
    model = TwoEngines()
    sparse = SparseAdam(filter_out_sparse_param(model), lr=0.05)
    optimizer = join(torch.optim.SGD(model.parameters(), lr=0.1), sparse)
    return _scaled(rank, world, DistributedDataParallel(model) if world > 1 else model, model, optimizer=optimizer)


STAGE = Stage(ddp, ddp_clipped, fsdp, fsdp_clipped, two_engines, looked_at, autocast)
SCALED = pytest.mark.parametrize("scene", STAGE.scenes[:5], ids=lambda scene: scene.__name__)


@pytest.mark.parametrize("world", WORLDS)
@SCALED
def test_as_on_one_process(scene: Any, world: int) -> None:
    assert_same_run(STAGE.of(world, scene), STAGE.of(1, scene)[0])


@pytest.mark.parametrize("world", WORLDS)
@SCALED
def test_an_inf_on_one_rank_skips_the_step_on_all(scene: Any, world: int) -> None:
    for rank in STAGE.of(world, scene):
        assert rank["moved"] == [s not in (SPARSE, DENSE) for s in range(STEPS)]
        assert rank["scales"] == [SCALE, SCALE / 2, SCALE / 2, SCALE / 4, SCALE / 4]
        assert set(rank["t"].values()) == {STEPS - 2}


@pytest.mark.parametrize("world", WORLDS)
def test_that_there_was_no_gradient_yet_is_not_remembered(world: int) -> None:
    ranks = STAGE.of(world, looked_at)
    assert all(all(rank["seen"]) for rank in ranks)
    assert_same_run(ranks, STAGE.of(1, looked_at)[0])


@pytest.mark.parametrize("world", WORLDS)
def test_autocast(world: int) -> None:
    """A bfloat16 tower rounds each rank's share of a gradient before they are summed: 2⁻⁸ of it."""
    assert_same_run(STAGE.of(world, autocast), STAGE.of(1, autocast)[0], rtol=2e-2)
