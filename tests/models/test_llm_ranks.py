"""A decoder beside tables on two processes: one process's losses and weights under FSDP2 and DDP, in float32 and bfloat16;
and the same bits when a run goes on."""

from __future__ import annotations

import shutil
import tempfile
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from recis_core.errors import RecisError
from recis_core.exchange.stepping import emptied
from recis_core.models.llm import shard_decoder
from recis_core.serialize import CheckpointManager, EverySteps
from tests.exchange.stages import WORLDS, Stage
from tests.models.llm_models import BIG, batch, differing, halves, model_of, options, trainer_of, weights_of


def shares(rank: int, world: int) -> list[dict[str, Any]]:
    """Of two batches the first row on the first rank, the others on the second, which has a third batch alone."""
    whole = [batch(k) for k in range(3)]
    if world == 1:
        return whole
    return [*(halves(given)[rank] for given in whole[:2]), *whole[2:][:rank]] if rank < 2 else []


def run(rank: int, world: int, *, dtype: Any = None, parallel: Any = "none", **how: Any) -> dict[str, Any]:
    """Three steps by SGD of both losses, in which the targets of all ranks are candidates; then scores of the first batch."""
    model = model_of(options=options(backend="numba"), language=True, **how)
    if parallel == "none" and world > 1:
        shard_decoder(model, dtype=dtype)
    more = {"empty": lambda: emptied(batch(0))}
    trainer = trainer_of(model, shares(rank, world), kind="sgd", parallel=parallel, more=more)
    trainer.train()
    weights = weights_of(model)
    scores = model.eval().score(batch(0), torch.arange(BIG, BIG + 5))
    rows = {name: dict(zip(weights[f"{name} ids"].tolist(), weights[f"{name} rows"], strict=True))
            for name in ("user", "context", "item")}  # fmt: skip
    dense = {name: value for name, value in weights.items() if "." in name}
    losses = [{"loss": r.loss, **r.losses} for r in trainer.heard.results]
    return {"losses": losses, "dense": dense, "rows": rows, "scores": scores, "count": trainer.rows}


def fsdp2(rank: int, world: int) -> dict[str, Any]:
    return run(rank, world)


def fsdp2_checkpointing(rank: int, world: int) -> dict[str, Any]:
    return run(rank, world, checkpointing=True)


def ddp(rank: int, world: int) -> dict[str, Any]:
    return run(rank, world, parallel="ddp")


def bfloat16(rank: int, world: int) -> dict[str, Any]:
    return run(rank, world, dtype=torch.bfloat16)


def dtypes(rank: int, world: int) -> dict[str, torch.dtype]:
    """Of what passes through a model whose blocks compute in bfloat16."""
    model, seen = shard_decoder(model_of(), dtype=torch.bfloat16), {}
    block = model.decoder.base_model.layers[0]
    block.mlp.register_forward_hook(lambda _, inputs, out: seen.update(block=out.dtype))
    model.engine.register_forward_hook(lambda _, inputs, out: seen.update(rows=out["item"].values().dtype))
    forward = model._rows

    def rows(given: dict[str, Any], candidates: Tensor) -> dict[str, Tensor]:
        seen["time"] = given["time"].dtype
        return forward(given, candidates)

    model._rows = rows
    loss = model({**batch(0), "time": torch.zeros(4, dtype=torch.float64)})["item"]
    loss.backward()
    parameter = next(model.parameters())
    return {**seen, "loss": loss.dtype, "shard": parameter.dtype, "gradient": parameter.grad.dtype}


def lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_dropout=0.1)


def going_on(rank: int, world: int, folder: str, adapters: Any = None) -> dict[str, Any]:
    """Five steps of two batches each, with a checkpoint every second, behind training; and those after the second once more."""

    def made(seed: int) -> Any:
        model = shard_decoder(model_of(lora=adapters, checkpointing=True, seed=seed), dtype=torch.bfloat16)
        torch.manual_seed(seed + rank)
        data = [halves(batch(k))[rank % 2] for k in range(10)]
        more = {"checkpoints": CheckpointManager(folder, save=EverySteps(2))}
        return trainer_of(model, data, parallel="none", gradient_accumulation_steps=2, more=more)

    whole, again = made(0), made(9)
    whole.train()
    restored = again.restore(2).step
    again.train()
    return {
        "steps": (restored, again.step),
        "losses": again.heard.losses == whole.heard.losses[2:],
        "differ": differing(again.model, whole.model),
        "dense": {name: value for name, value in weights_of(whole.model).items() if "." in name},
    }


def in_a_folder_of_all() -> str:
    """Left for one process to read."""
    where = [tempfile.mkdtemp() if dist.get_rank() == 0 else ""]
    dist.broadcast_object_list(where)
    return where[0]


def resumed(rank: int, world: int) -> dict[str, Any]:
    folder = in_a_folder_of_all()
    return {"folder": folder, **going_on(rank, world, folder, lora())}


def resumed_whole(rank: int, world: int) -> dict[str, Any]:
    folder = in_a_folder_of_all()
    return {"folder": folder, **going_on(rank, world, folder)}


def bad_batch(rank: int, world: int) -> list[str]:
    """On the last rank alone; then on none."""
    model, said = shard_decoder(model_of()), []
    for tokens in (batch(0)["item"] if rank == world - 1 else batch(0)["tokens"], batch(0)["tokens"]):
        try:
            model({**batch(0), "tokens": tokens})
            said.append("no error")
        except (ValueError, RecisError) as error:
            said.append(f"{type(error).__name__}: {error}")
    return said


STAGE = Stage(fsdp2, fsdp2_checkpointing, ddp, bfloat16, dtypes, resumed, bad_batch)
FULL = Stage(resumed_whole)


def assert_same_run(ranks: list[dict[str, Any]], want: dict[str, Any], rtol: float) -> None:
    """Losses of all steps, dense parameters, rows of all ranks together, and scores."""
    rows = {name: {i: row for rank in ranks for i, row in rank["rows"][name].items()} for name in want["rows"]}
    for rank in ranks:
        assert rank["count"] == want["count"]
        for step, expected in zip(rank["losses"], want["losses"], strict=True):
            assert step == pytest.approx(expected, rel=rtol)
        for name in ("dense", "scores"):
            torch.testing.assert_close(rank[name], want[name], rtol=rtol, atol=10 * rtol)
    torch.testing.assert_close(rows, want["rows"], rtol=rtol, atol=10 * rtol)


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return run(0, 1)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("scene", [fsdp2, fsdp2_checkpointing, ddp], ids=lambda scene: scene.__name__)
def test_as_on_one_process(scene: Any, world: int, alone: dict[str, Any]) -> None:
    """Ranks have unequal rows, and one none at last; candidates are those of all."""
    assert len(alone["losses"]) == 3
    assert_same_run(STAGE.of(world, scene), alone, rtol=1e-5)


def test_a_comparison_fails_where_ranks_see_their_own_candidates_alone(alone: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        assert_same_run([run(0, 1, in_batch=False)], alone, rtol=1e-5)


@pytest.mark.parametrize("world", WORLDS)
def test_bfloat16_is_near(world: int, alone: dict[str, Any]) -> None:
    for rank in STAGE.of(world, bfloat16):
        for step, expected in zip(rank["losses"], alone["losses"], strict=True):
            assert step == pytest.approx(expected, rel=2e-2)
        assert rank["losses"] != alone["losses"]


def test_what_is_cast() -> None:
    for seen in STAGE.of(2, dtypes):
        assert seen.pop("block") == torch.bfloat16
        assert seen.pop("time") == torch.float64
        assert set(seen.values()) == {torch.float32}  # rows, loss, shards, gradients


def went_on(ranks: list[dict[str, Any]]) -> None:
    for found in ranks:
        assert (found["steps"], found["losses"], found["differ"]) == ((2, 5), True, [])


def test_a_resumed_run_has_the_same_bits_and_one_process_reads_what_two_have_saved() -> None:
    """With FSDP2, bfloat16, LoRA, checkpointed activations, accumulation, and saves behind training."""
    ranks = STAGE.of(2, resumed)
    went_on(ranks)
    model = model_of(lora=lora(), seed=7)
    manager = CheckpointManager(ranks[0]["folder"])
    trainer_of(model, [], more={"checkpoints": manager}).restore(exclude=["data"])  # which is of two ranks
    shutil.rmtree(ranks[0]["folder"])
    found = {name: value for name, value in weights_of(model).items() if "." in name}
    assert differing(found, ranks[0]["dense"]) == []
    assert len(model.engine.table("item")) > 0


@pytest.mark.full
def test_a_resumed_run_that_trains_all_of_the_decoder() -> None:
    ranks = FULL.of(2, resumed_whole)
    went_on(ranks)
    shutil.rmtree(ranks[0]["folder"])


def test_an_error_on_one_rank_is_raised_on_all() -> None:
    first, last = STAGE.of(2, bad_batch)
    assert first[0].startswith("ExchangeMismatch: rank(s) [1] raised an error")
    assert last[0].startswith("ValueError: tokens must be in [0, 24)")
    assert (first[1], last[1]) == ("no error", "no error")


def test_sharding_without_a_process_group() -> None:
    with pytest.raises(RecisError, match="start the script with torchrun"):
        shard_decoder(model_of())
    with pytest.raises(TypeError, match="model must be a DecoderWithTables; got Linear"):
        shard_decoder(torch.nn.Linear(1, 1))  # type: ignore[arg-type]
