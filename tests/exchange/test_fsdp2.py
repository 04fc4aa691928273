"""Beside fully_shard: every wrapping policy, bfloat16 parameters, accumulation; as on one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.fsdp import MixedPrecisionPolicy

from recis_core.nn import filter_out_sparse_param
from tests.exchange.models import Batch, Model, batch, optimizer_of, share
from tests.exchange.stages import WORLDS, Stage
from tests.training.on_ranks import assert_same_run, local_loss, result, sharded, train

MICRO = 2
BF16 = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)


def _run(rank: int, world: int, policy: str) -> dict[str, Any]:
    model = sharded(Model(), policy) if world > 1 else Model()
    return result(model, train(model, optimizer_of(model), rank, world), tables=list(filter_out_sparse_param(model)))


def root(rank: int, world: int) -> dict[str, Any]:
    return _run(rank, world, "root")


def block(rank: int, world: int) -> dict[str, Any]:
    return _run(rank, world, "block")


def both(rank: int, world: int) -> dict[str, Any]:
    return _run(rank, world, "both")


def accumulates(rank: int, world: int) -> dict[str, Any]:
    model = sharded(Model(), "both") if world > 1 else Model()
    optimizer, losses, gradient_bytes = optimizer_of(model, "sgd", lr=10.0), [], []
    for s in range(2):
        optimizer.zero_grad()
        for m in range(MICRO):
            if world > 1:
                model.set_requires_gradient_sync(m == MICRO - 1)
            loss = local_loss(model, batch(MICRO * s + m, share(rank, world))) / MICRO
            loss.backward()
            losses.append(loss.item())
            gradient_bytes.append(model.engine.exchange.stats().get("gradients", 0) if world > 1 else 0)
        optimizer.step()
    return result(model, losses, gradient_bytes=gradient_bytes)


class Mixed(Model):
    """A bfloat16 tower that looks at a timestamp and a label beside its rows."""

    def __init__(self) -> None:
        super().__init__(output_dtype=torch.bfloat16)
        self.seen: dict[str, torch.dtype] = {}

    def forward(self, features: Batch) -> Tensor:
        self.seen = {name: features[name].dtype for name in ("user", "label", "time")}
        self.seen["weight"] = features["history"].weight().dtype
        return super().forward(features)


TIME = 1_732_480_000.25  # seconds, which bfloat16 rounds by months


def _mixed(rank: int, world: int, policy: str, *, cast: bool) -> dict[str, Any]:
    model = Mixed()
    if world > 1:
        how = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=cast)
        sharded(model, policy, mp_policy=how)
    optimizer, losses = optimizer_of(model, "sgd", lr=10.0), []
    for s in range(3):
        data = batch(s, share(rank, world))
        data["time"] = torch.full((len(data["label"]),), TIME, dtype=torch.float64)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=world == 1):
            loss = local_loss(model, data)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return result(model, losses, seen=model.seen, outside=data["label"].dtype, time=data["time"][0].item())


def mixed_root(rank: int, world: int) -> dict[str, Any]:
    return _mixed(rank, world, "root", cast=False)


def mixed_block(rank: int, world: int) -> dict[str, Any]:
    return _mixed(rank, world, "block", cast=True)


def mixed_both(rank: int, world: int) -> dict[str, Any]:
    return _mixed(rank, world, "both", cast=False)


def mixed_root_casting(rank: int, world: int) -> dict[str, Any]:
    return _mixed(rank, world, "root", cast=True)


def rows_of_float32(rank: int, world: int) -> str:
    """A root alone casts what comes into it, not what the engine makes inside."""
    model = Model()
    if world > 1:
        sharded(model, "root", mp_policy=MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False))
    try:
        model(batch(0, share(rank, world)))
    except RuntimeError as error:
        return str(error)
    return "no error"


STAGE = Stage(root, block, both, accumulates, mixed_root, mixed_block, mixed_both, mixed_root_casting, rows_of_float32)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("scene", STAGE.scenes[:4], ids=lambda scene: scene.__name__)
def test_as_on_one_process(scene: Any, world: int) -> None:
    assert_same_run(STAGE.of(world, scene), STAGE.of(1, scene)[0])


@pytest.mark.parametrize("world", WORLDS)
def test_tables_are_found_in_a_sharded_model(world: int) -> None:
    assert all(rank["tables"] == ["user", "item", "tags"] for rank in STAGE.of(world, both))


@pytest.mark.parametrize("world", WORLDS)
def test_gradients_of_rows_travel_once_a_step(world: int) -> None:
    for rank in STAGE.of(world, accumulates):
        sent = rank["gradient_bytes"]
        assert sent[0] == sent[1] == 0 < sent[2] == sent[3]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("scene", STAGE.scenes[4:8], ids=lambda scene: scene.__name__)
def test_bfloat16_parameters(scene: Any, world: int) -> None:
    """Against autocast on one process; bfloat16 activations and gradients round at other places: 2⁻⁸ each."""
    assert_same_run(STAGE.of(world, scene), STAGE.of(1, scene)[0], rtol=2e-2)


@pytest.mark.parametrize("scene", [mixed_root, mixed_block, mixed_both], ids=lambda scene: scene.__name__)
def test_labels_and_timestamps_stay_out_of_the_cast(scene: Any) -> None:
    for rank in STAGE.of(2, scene):
        seen = rank["seen"]
        assert (seen["user"], seen["label"], seen["time"]) == (torch.int64, torch.float32, torch.float64)
        assert seen["weight"] == torch.float32


def test_what_a_casting_root_does_to_them() -> None:
    """Why docs/exchange.md says cast_forward_inputs=False, or labels apart: ids and ragged weights are left, floats are not."""
    for rank in STAGE.of(2, mixed_root_casting):
        seen = rank["seen"]
        assert (seen["user"], seen["weight"]) == (torch.int64, torch.float32)
        assert (seen["label"], seen["time"]) == (torch.bfloat16, torch.bfloat16)
        assert (rank["outside"], rank["time"]) == (torch.float32, TIME)


def test_a_bfloat16_root_needs_rows_of_its_dtype() -> None:
    assert all("same dtype" in said for said in STAGE.of(2, rows_of_float32))
