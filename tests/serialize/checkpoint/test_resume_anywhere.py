"""A Trainer's run with a CheckpointManager, stopped at random steps.

In the same world it goes on with the bits of the run that was not stopped, metrics and logged lines included. On another
number of ranks, another backend or other tiers it ends with the same ids, and values within 1e-5.

RECIS_TEST_FULL=1 stops at 100 steps, and goes to two ranks and back, and to jax.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import StepLR

from recis_core.framework import Trainer
from recis_core.hooks import JsonLinesHook
from recis_core.metrics import AUROC
from recis_core.nn import CacheConfig, EmbeddingEngine, EmbeddingOption, UniformInitializer
from recis_core.serialize import CheckpointManager, DeltaPolicy, EverySteps
from tests.exchange.models import share
from tests.exchange.ranks import run_ranks
from tests.framework.test_resume import Drawing
from tests.framework.trainers import DIM, Clicks, assert_same_weights, batches, optimizers_of, trainer_of, weights_of
from tests.serialize.states import FULL

STEPS = 150 if FULL else 12  # of a run: two epochs
STOPS = sorted(random.Random(0).sample(range(1, STEPS), 100 if FULL else 2))
ELSEWHERE = sorted(random.Random(1).sample(range(1, STEPS), 10 if FULL else 1))
CACHE = {"device_rows": 64, "host_rows": 16, "policy": "lru"}  # of 300 rows and more


def seeded(seed: int) -> None:
    for each in (torch.manual_seed, np.random.seed, random.seed):
        each(seed)


# The same world


def run_of(folder: Path) -> Trainer:
    """All that has a state; each step is saved, most of them as deltas."""
    model = Drawing(dropout=0.3, backend="numba")
    optimizer = optimizers_of(model)
    more = {
        "optimizers": optimizer, "schedulers": StepLR(optimizer, 40, 0.9), "metrics": {"auc": AUROC()},
        "train_metrics": {"auc": AUROC()}, "hooks": [JsonLinesHook(folder / "log.jsonl", 3)],
        "checkpoints": CheckpointManager(folder / "checkpoints", EverySteps(1), None, delta=DeltaPolicy(5)),
    }  # fmt: skip
    return trainer_of(
        model, batches(STEPS // 2), batches(2), more=more, train_epoch=2, mixed_precision="fp16", max_grad_norm=0.5,
        eval_steps=5, log_steps=4,
    )  # fmt: skip


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """Without rates by time."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{**line, "train": {**line.get("train", {}), "rows_per_s": 0}} for line in lines]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: Any) -> tuple[Trainer, Path, torch.Tensor]:
    folder = tmp_path_factory.mktemp("undisturbed")
    seeded(7)
    trainer = run_of(folder)
    trainer.train()
    return trainer, folder, torch.rand(1)


@pytest.mark.parametrize("step", STOPS)
def test_in_the_same_world_the_same_bits(undisturbed: Any, tmp_path: Path, step: int) -> None:
    whole, folder, number = undisturbed
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    seeded(99)
    trainer = run_of(tmp_path)
    assert trainer.restore(step).step == trainer.step == step
    trainer.train()
    assert_same_weights(trainer.model, whole.model)
    assert torch.equal(torch.rand(1), number)
    assert (trainer.step, trainer.rows, trainer.epoch) == (whole.step, whole.rows, whole.epoch)
    assert trainer.step == STEPS
    assert dict(trainer.last_metrics) == dict(whole.last_metrics)
    assert lines_of(tmp_path) == lines_of(folder)


# Another one


class Kept(Clicks):
    """With other backends and tiers."""

    def __init__(self, backend: str, cache: CacheConfig | None) -> None:
        super().__init__()
        option = EmbeddingOption(DIM, initializer=UniformInitializer(-0.3, 0.3), backend=backend, cache=cache)
        self.engine = EmbeddingEngine({"user": option, "item": option})


class Shares:
    """This rank's rows of global batches, of many ids. Its position is that of all ranks, of any number."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self._share, self._at, self._goes_on = share(rank, world, 8), 0, False

    def __iter__(self) -> Any:
        if not self._goes_on and self._at == STEPS // 2:
            self._at = 0
        self._goes_on = False
        whole = batches(STEPS // 2)
        while self._at < len(whole):
            self._at += 1
            ids = {name: whole[self._at - 1][name] * self._at for name in ("user", "item")}
            yield {name: v[self._share] for name, v in {**ids, "label": whole[self._at - 1]["label"]}.items()}

    def go_on(self) -> None:
        self._goes_on = True

    def state_dict(self) -> dict[str, int]:
        return {"at": self._at}

    def load_state_dict(self, state: Any) -> None:
        self._at = (state[0] if isinstance(state, list) else state)["at"]


def finished(
    folder: Path, stop: int | None = None, rank: int = 0, world: int = 1, *, backend: str = "numba", cache: Any = None,
    save: bool = False,
) -> Trainer:  # fmt: skip
    """The run to its end; stop: from the checkpoint of that step on. save: each step."""
    manager = CheckpointManager(folder, EverySteps(1) if save else None, None)
    empty = {name: values[:0] for name, values in batches(1)[0].items()}
    more = {"checkpoints": manager, "empty": lambda: empty}
    trainer = trainer_of(Kept(backend, cache), Shares(rank, world), more=more, train_epoch=2)
    if stop is not None:
        trainer.restore(stop)
    trainer.train()
    manager.close()
    return trainer


@pytest.fixture(scope="module")
def alone(tmp_path_factory: Any) -> tuple[Trainer, Path]:
    folder = tmp_path_factory.mktemp("alone")
    return finished(folder, save=True), folder


@pytest.mark.parametrize("step", ELSEWHERE)
@pytest.mark.parametrize("backend", ["torch", "numba", "jax"] if FULL else ["torch"])
def test_on_another_backend(alone: Any, step: int, backend: str) -> None:
    whole, folder = alone
    trainer = finished(folder, step, backend=backend)
    assert trainer.step == STEPS
    assert_same_weights(trainer.model, whole.model, close=True)


@pytest.mark.parametrize("step", ELSEWHERE)
@pytest.mark.parametrize("disk", [False, True])
def test_in_tiers_and_back(alone: Any, tmp_path: Path, step: int, disk: bool) -> None:
    whole, folder = alone
    cache = CacheConfig(**CACHE, disk=str(tmp_path / "disk")) if disk else CacheConfig(**CACHE | {"host_rows": None})
    shutil.copytree(folder, tmp_path / "run")
    there = finished(tmp_path / "run", step, cache=cache, save=True)
    assert_same_weights(there.model, whole.model, close=True)
    back = finished(tmp_path / "run", min(step + 1, STEPS - 1))  # saved in tiers
    assert back.step == STEPS
    assert_same_weights(back.model, there.model, close=True)


def on_ranks(rank: int, world: int, folder: str, alone: str, steps: list[int]) -> dict[str, Any]:
    """What a rank holds at the end: of a run of its own, and from steps of a run of one rank on."""
    whole = finished(Path(folder), None, rank, world, save=True)
    others = [weights_of(finished(Path(alone), step, rank, world).model) for step in steps]
    return {"whole": weights_of(whole.model), "others": others}


@pytest.mark.full
def test_on_two_ranks_and_back(alone: Any, tmp_path: Path) -> None:
    whole, folder = alone
    found = run_ranks(2, on_ranks, str(tmp_path), str(folder), ELSEWHERE)
    wanted = weights_of(whole.model)
    assert_same_rows([rank["whole"] for rank in found], wanted)
    for number in range(len(ELSEWHERE)):
        assert_same_rows([rank["others"][number] for rank in found], wanted)
    for step in ELSEWHERE:
        assert_same_rows([weights_of(finished(tmp_path, step).model)], wanted)


def assert_same_rows(ranks: list[dict[str, torch.Tensor]], wanted: dict[str, torch.Tensor]) -> None:
    """Ranks hold equal dense parameters, and together each row once, within 1e-5: ranks sum gradients in another order."""
    for name in ("user", "item"):
        ids = torch.cat([rank[f"{name} ids"] for rank in ranks])
        assert torch.equal(ids.sort().values, wanted[f"{name} ids"])
        for part in ("rows", "m", "v"):
            rows = torch.cat([rank[f"{name} {part}"] for rank in ranks])[ids.argsort()]
            torch.testing.assert_close(rows, wanted[f"{name} {part}"], rtol=0, atol=1e-5)
    for name in (name for name in wanted if name.startswith("tower")):
        for rank in ranks:
            torch.testing.assert_close(rank[name], wanted[name], rtol=0, atol=1e-5)


def test_a_run_that_goes_on_otherwise_is_seen(alone: Any) -> None:
    """The comparisons can fail: the same checkpoint, and a step less."""
    whole, folder = alone
    shorter = trainer_of(Kept("numba", None), Shares(), more={"checkpoints": CheckpointManager(folder, None, None)})
    shorter.restore(STEPS - 1)
    with pytest.raises(AssertionError):
        assert_same_weights(shorter.model, whole.model, close=True)
    with pytest.raises(AssertionError):
        assert_same_rows([weights_of(shorter.model)], weights_of(whole.model))
