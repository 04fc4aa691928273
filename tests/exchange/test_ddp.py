"""Beside DistributedDataParallel: accumulation, activation checkpointing, torch.compile; as on one process."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from tests.exchange.models import FEATURES, Batch, Model, batch, optimizer_of, share
from tests.exchange.ranks import Failure, run_ranks
from tests.exchange.stages import WORLDS, Stage
from tests.training.on_ranks import assert_same_run, local_loss, result, train

MICRO = 3


def ddp(model: nn.Module, world: int) -> nn.Module:
    return DistributedDataParallel(model) if world > 1 else model


def plain(rank: int, world: int) -> dict[str, Any]:
    model = Model()
    optimizer = optimizer_of(model)
    losses = train(ddp(model, world), optimizer, rank, world)
    exchange = model.engine.exchange
    return result(model, losses, counts=model.engine.stats(), calls=exchange and exchange.channel.calls)


def accumulates(rank: int, world: int) -> dict[str, Any]:
    """MICRO backwards a step; what was sent until each."""
    model = Model()
    # Adam would enlarge what is left of sums that cancel.
    optimizer, wrapped = optimizer_of(model, "sgd", lr=10.0), ddp(model, world)
    losses, sent = [], []
    for s in range(2):
        optimizer.zero_grad()
        for m in range(MICRO):
            last = m == MICRO - 1
            with nullcontext() if last or world == 1 else wrapped.no_sync():
                loss = local_loss(wrapped, batch(MICRO * s + m, share(rank, world))) / MICRO
                sent.append(_sent(model))
                loss.backward()
                sent.append(_sent(model))
            losses.append(loss.item())
        optimizer.step()
        sent.append(_sent(model))
    return result(model, losses, sent=sent)


def _sent(model: Model) -> dict[str, int]:
    exchange = model.engine.exchange
    return {} if exchange is None else {**exchange.stats(), "calls": exchange.channel.calls}


class Checkpointed(Model):
    """The tower's activations are computed again in backward; or the engine's too."""

    whole = False

    def forward(self, features: Batch) -> Tensor:
        if self.whole:
            return checkpoint(super().forward, features, use_reentrant=False)
        out = self.engine({name: features[name] for name in FEATURES})
        rows = torch.cat([out[name] for name in FEATURES], dim=1)
        return checkpoint(self.tower, rows, use_reentrant=False).squeeze(1)


class WholeCheckpointed(Checkpointed):
    whole = True


def checkpointed_tower(rank: int, world: int) -> dict[str, Any]:
    return _checkpointed(rank, world, Checkpointed())


def checkpointed_engine(rank: int, world: int) -> dict[str, Any]:
    return _checkpointed(rank, world, WholeCheckpointed())


def _checkpointed(rank: int, world: int, model: Model) -> dict[str, Any]:
    losses = train(ddp(model, world), optimizer_of(model), rank, world)
    exchange = model.engine.exchange
    return result(model, losses, counts=model.engine.stats(), calls=exchange and exchange.channel.calls)


def checkpointed_feedback(rank: int, world: int) -> str:
    """Rows that travel with error feedback come out other than the first time."""
    if world == 1:
        return ""
    model = WholeCheckpointed(precision="forward=int8+ef")
    try:
        train(ddp(model, world), optimizer_of(model), rank, world)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def compiled_tower(rank: int, world: int) -> dict[str, Any]:
    return _compiled(rank, world, "aot_eager", whole=False)


def compiled_whole(rank: int, world: int) -> dict[str, Any]:
    return _compiled(rank, world, "aot_eager", whole=True)


def _compiled(rank: int, world: int, compiler: str, *, whole: bool) -> dict[str, Any]:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = Model()
    optimizer, wrapped = optimizer_of(model), ddp(model, world)
    if whole:
        wrapped = torch.compile(wrapped, backend=compiler)
    else:
        model.tower = torch.compile(model.tower, backend=compiler)
    losses = train(wrapped, optimizer, rank, world)
    return result(model, losses, graphs=torch._dynamo.utils.counters["stats"]["unique_graphs"])


STAGE = Stage(
    plain, accumulates, checkpointed_tower, checkpointed_engine, compiled_tower, compiled_whole, checkpointed_feedback
)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("scene", STAGE.scenes[:-1], ids=lambda scene: scene.__name__)
def test_as_on_one_process(scene: Any, world: int) -> None:
    assert_same_run(STAGE.of(world, scene), STAGE.of(1, scene)[0])


@pytest.mark.parametrize("scene", [compiled_tower, compiled_whole], ids=lambda scene: scene.__name__)
def test_the_dense_side_is_compiled(scene: Any) -> None:
    assert all(rank["graphs"] > 0 for rank in STAGE.of(2, scene))


@pytest.mark.parametrize("world", WORLDS)
def test_under_no_sync_rows_travel_every_micro_step_and_gradients_once(world: int) -> None:
    for rank in STAGE.of(world, accumulates):
        for s in range(2):
            *micro, stepped = rank["sent"][s * (2 * MICRO + 1) : (s + 1) * (2 * MICRO + 1)]
            before = rank["sent"][s * (2 * MICRO + 1) - 1] if s else {"ids": 0, "rows": 0, "gradients": 0, "calls": 0}
            for m in range(MICRO):
                forward, backward = micro[2 * m : 2 * m + 2]
                assert forward["ids"] > before["ids"]
                assert forward["rows"] > before["rows"]
                assert forward.get("gradients", 0) == before.get("gradients", 0)
                assert m + s == 0 or forward["calls"] - before["calls"] == 2  # ids agreed, rows agreed
                assert backward == forward
                before = backward
            assert (stepped["ids"], stepped["rows"]) == (before["ids"], before["rows"])
            assert stepped["gradients"] > before.get("gradients", 0)
            assert stepped["calls"] - before["calls"] == 3  # flags, gradients, norm


@pytest.mark.parametrize("world", WORLDS)
def test_recomputed_lookups_count_once_and_repeat_on_every_rank(world: int) -> None:
    for once, again, tower in zip(
        STAGE.of(world, plain), STAGE.of(world, checkpointed_engine), STAGE.of(world, checkpointed_tower), strict=True
    ):
        assert again["counts"] == once["counts"] == tower["counts"]
        assert tower["calls"] == once["calls"]
        assert again["calls"] == once["calls"] + 3 * 2  # a forward more each step, and no gradient more


@pytest.mark.parametrize("world", WORLDS)
def test_recomputing_rows_of_error_feedback_is_an_error_on_every_rank(world: int) -> None:
    said = STAGE.of(world, checkpointed_feedback)
    assert all("error feedback, which has moved on" in text or "ExchangeMismatch" in text for text in said), said
    assert any(text.startswith("RecisError") for text in said)


def inductor(rank: int, world: int) -> dict[str, Any]:
    return _compiled(rank, world, "inductor", whole=True)


@pytest.mark.full
@pytest.mark.parametrize("world", [2, 4])
def test_compiled_by_inductor(world: int) -> None:
    ranks = run_ranks(world, inductor)
    assert not any(isinstance(r, Failure) for r in ranks)
    assert_same_run(ranks, STAGE.of(1, plain)[0])
