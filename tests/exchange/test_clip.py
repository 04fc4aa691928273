"""Clipping by the norm over dense and sparse: one number on every rank, that of one process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from tests.exchange.models import Model, optimizer_of
from tests.exchange.stages import WORLDS, Stage
from tests.training.on_ranks import assert_same_run, overlapping, result, sharded, train

CLIP = 0.03  # below all norms of these steps


def _clipped(rank: int, world: int, wrapped: Any, model: Model, scale: float | None = None) -> dict[str, Any]:
    norms: list[float] = []
    scaler = None if scale is None else torch.amp.GradScaler("cpu", init_scale=scale)
    losses = train(wrapped, optimizer_of(model, "sgd", lr=10.0), rank, world, clip=CLIP, norms=norms, scaler=scaler)
    return result(model, losses, norms=norms)


def _ddp(rank: int, world: int, scale: float | None = None, **option: Any) -> dict[str, Any]:
    model = Model(**option)
    return _clipped(rank, world, DistributedDataParallel(model) if world > 1 else model, model, scale)


def ddp(rank: int, world: int) -> dict[str, Any]:
    return _ddp(rank, world)


def ddp_scaled(rank: int, world: int) -> dict[str, Any]:
    return _ddp(rank, world, 2.0**12)


def ddp_feedback(rank: int, world: int) -> dict[str, Any]:
    return _ddp(rank, world, 2.0**12, precision="backward=int8+ef")


def ddp_feedback_unscaled(rank: int, world: int) -> dict[str, Any]:
    return _ddp(rank, world, precision="backward=int8+ef")


def ddp_replicated(rank: int, world: int) -> dict[str, Any]:
    return _ddp(rank, world, sharding="replicated")


def ddp_hot(rank: int, world: int) -> dict[str, Any]:
    return _ddp(rank, world, sharding="row+hot(20)")


def ddp_column(rank: int, world: int) -> dict[str, Any]:
    return _ddp(rank, world, sharding="column")


def ddp_overlap(rank: int, world: int) -> dict[str, Any]:
    model = overlapping()
    return _clipped(rank, world, DistributedDataParallel(model) if world > 1 else model, model)


def fsdp(rank: int, world: int) -> dict[str, Any]:
    model = sharded(Model(), "both") if world > 1 else Model()
    return _clipped(rank, world, model, model)


STAGE = Stage(
    ddp, ddp_scaled, ddp_overlap, ddp_hot, ddp_column, fsdp, ddp_replicated, ddp_feedback, ddp_feedback_unscaled
)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("scene", STAGE.scenes, ids=lambda scene: scene.__name__)
def test_the_norm_is_equal_on_all_ranks(scene: Any, world: int) -> None:
    first, *others = [rank["norms"] for rank in STAGE.of(world, scene)]
    assert min(first) > CLIP
    assert all(norms == first for norms in others)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("scene", [ddp, ddp_scaled, ddp_overlap, ddp_hot, fsdp], ids=lambda scene: scene.__name__)
def test_as_on_one_process(scene: Any, world: int) -> None:
    ranks, want = STAGE.of(world, scene), STAGE.of(1, ddp)[0]
    np.testing.assert_allclose(ranks[0]["norms"], want["norms"], rtol=1e-5)
    assert_same_run(ranks, want)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("scene", [ddp_replicated, ddp_column], ids=lambda scene: scene.__name__)
def test_a_table_that_is_on_all_ranks_counts_once(scene: Any, world: int) -> None:
    np.testing.assert_allclose(STAGE.of(world, scene)[0]["norms"], STAGE.of(1, ddp)[0]["norms"], rtol=1e-5)


@pytest.mark.parametrize("world", WORLDS)
def test_with_error_feedback_the_norm_is_of_what_was_sent_unscaled(world: int) -> None:
    """A power of two scales exactly, so a scaled run is the unscaled one bit for bit; int8 loses less than 1 %."""
    scaled, plain = STAGE.of(world, ddp_feedback)[0]["norms"], STAGE.of(world, ddp_feedback_unscaled)[0]["norms"]
    assert scaled == plain
    np.testing.assert_allclose(scaled, STAGE.of(1, ddp)[0]["norms"], rtol=1e-2)
