"""Ranks: one process's results, whatever rows and batches each has; they evaluate, save, stop and end together.

Sizes: W ranks.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch

from recis_core.framework import Stopped, ending_on_signals
from recis_core.hooks import Hook
from recis_core.metrics import AUROC
from tests.exchange.stages import WORLDS, Stage
from tests.framework.trainers import Clicks, Heard, Memory, batch, batches, cut, trainer_of
from tests.training.on_ranks import assert_same_run, result

ROWS = 24
STEPS = 3


def shares(rank: int, world: int) -> list[dict[str, Any]]:
    """Unequal parts of each step's rows: of three on two ranks 17 and 7; the last rank may have few."""
    ends = [*[17 * (k + 1) // (world - 1) for k in range(world - 1)], ROWS] if world > 1 else [ROWS]
    return [cut(batch(s, ROWS), *ends)[rank] for s in range(STEPS)]


def run(rank: int, world: int, data: Any, *, model: Any = None, more: Any = None, **args: Any) -> dict[str, Any]:
    heard = Heard()
    more = {**(more or {}), "hooks": [heard, *(more or {}).get("hooks", [])]}
    trainer = trainer_of(model, data, kind="sgd", more=more, **args)
    trainer.train()
    counts = (trainer.step, trainer.rows, trainer.epoch)
    return result(
        trainer.model, [r.loss for r in heard.results], counts=counts, rows_of_steps=[r.rows for r in heard.results]
    )


def ddp(rank: int, world: int) -> dict[str, Any]:
    return run(rank, world, shares(rank, world))


def fsdp2(rank: int, world: int) -> dict[str, Any]:
    return run(rank, world, shares(rank, world), parallel="fsdp2")


def groups(rank: int, world: int) -> list[dict[str, Any]]:
    """Five batches on the first rank, of all sizes; three on the last; alone both, group by group."""
    first = [batch(k, rows) for k, rows in enumerate((8, 3, 8, 5, 1))]
    last = [batch(10 + k, rows) for k, rows in enumerate((2, 8, 4))]
    if world > 1:
        return {0: first, world - 1: last}.get(rank, [])
    pairs = [(first[0:2], last[0:2]), (first[2:4], last[2:3]), (first[4:5], [])]
    return [{n: torch.cat([part[n] for part in [*a, *b]]) for n in first[0]} for a, b in pairs]


def nothing() -> dict[str, Any]:
    return {name: values[:0] for name, values in batch(0).items()}


def accumulated(rank: int, world: int, **args: Any) -> dict[str, Any]:
    args = {"gradient_accumulation_steps": 2 if world > 1 else 1, "max_grad_norm": 0.05, "train_epoch": 2, **args}
    return run(rank, world, groups(rank, world), more={"empty": nothing}, **args)


def accumulated_fsdp2(rank: int, world: int) -> dict[str, Any]:
    return accumulated(rank, world, parallel="fsdp2")


class Sometimes(Clicks):
    """Its bias of few rows is used by batches of fewer than five alone, as the second of a group is."""

    def __init__(self) -> None:
        super().__init__()
        self.few = torch.nn.Parameter(torch.ones(1))

    def forward(self, batch: dict[str, Any]) -> Any:
        logits = super().forward(batch)
        return logits + self.few * (batch["user"] % 2) if "few" in batch else logits


def parameters_of_some_batches(rank: int, world: int) -> dict[str, Any]:
    """Used in the first of two batches, on one rank alone."""
    used, other = {**batch(0, 6), "few": torch.zeros(6)}, batch(1, 6)
    if world == 1:
        trainer = trainer_of(Sometimes(), [], kind="sgd")
        heard = trainer.train_step([used, other, batch(2, 6), batch(3, 6)])
        return result(trainer.model, [heard.loss], counts=(1, 24, 1), rows_of_steps=[24])
    data = {0: [used, other], 1: [batch(2, 6), batch(3, 6)]}.get(rank, [])
    return run(rank, world, data, model=Sometimes(), gradient_accumulation_steps=2, more={"empty": nothing})


def evaluated(rank: int, world: int) -> dict[str, float]:
    data = groups(rank, world)
    trainer = trainer_of(data=[], evaluation=data, more={"metrics": {"auc": AUROC()}, "empty": nothing})
    return trainer.evaluate()


class StoppingOnOne(Hook):
    def after_step(self, run: Any, result: Any) -> None:
        if run.step == 2 and run.rank == run.world - 1:
            run.stop("enough")


class StoppingAt(Hook):
    """On the last rank alone, at a place."""

    def __init__(self, place: str) -> None:
        setattr(type(self), place, lambda hook, run: run.stop("enough") if run.rank == run.world - 1 else None)


def stopped_at_places(rank: int, world: int) -> list[int]:
    """Steps until then, of epochs of two steps."""
    steps = []
    for place in ("before_train", "before_epoch", "after_epoch"):
        hook = type("Stopping", (StoppingAt,), {})(place)
        trainer = trainer_of(data=batches(2), train_epoch=3, more={"hooks": [hook]})
        trainer.train()
        steps.append(trainer.step)
    return steps


def stopped(rank: int, world: int) -> dict[str, Any]:
    trainer = trainer_of(data=batches(5), more={"hooks": [StoppingOnOne()]})
    trainer.train()
    return {"step": trainer.step, "why": trainer.stopped_by}


class DueOnOne(Memory):
    """As a policy by the clock is: one rank's clock is ahead."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank

    def due(self, step: int) -> bool:
        return self.rank == 0 and step == 2


def due_on_one(rank: int, world: int) -> list[int]:
    manager = DueOnOne(rank)
    trainer_of(data=batches(3), more={"checkpoints": manager}).train()
    return list(manager.saved)


def ended(rank: int, world: int) -> dict[str, Any]:
    """A signal on one rank."""

    class Ending(Hook):
        def before_step(self, run: Any, batch: Any) -> None:
            if run.step == 1 and run.rank == 0:
                signal.raise_signal(signal.SIGTERM)

    manager = Memory()
    trainer = trainer_of(data=batches(5), more={"hooks": [Ending()], "checkpoints": manager})
    status = None
    try:
        with ending_on_signals():
            trainer.train()
    except SystemExit as left:
        status = left.code
    with suppress(Stopped):
        trainer.train()
    return {"saved": list(manager.saved), "status": status}


def resumed(rank: int, world: int) -> bool:
    """Whether a run that goes on from its second step has the bits of the one that did not stop there."""

    def made(manager: Memory) -> Any:
        model = Clicks(dropout=0.3)
        torch.manual_seed(rank)
        more = {"checkpoints": manager, "empty": nothing, "train_metrics": {"auc": AUROC()}, "hooks": [Heard()]}
        return trainer_of(
            model, groups(rank, world), more=more, gradient_accumulation_steps=2, train_epoch=2, log_steps=4
        ), more["hooks"][0]

    manager = Memory(1)
    whole, heard = made(manager)
    whole.train()
    same = []
    for step in (1, 2, 3, 5):
        trainer, again = made(manager.copy())
        torch.manual_seed(77)
        trainer.restore(step)
        trainer.train()
        a, b = result(trainer.model, []), result(whole.model, [])
        rows = all(np.array_equal(b["rows"][t][i], row) for t, found in a["rows"].items() for i, row in found.items())
        same += [rows, np.array_equal(a["tower"], b["tower"]), again.results == heard.results[step:]]
    return all(same)


def without_empty(rank: int, world: int) -> str:
    trainer = trainer_of(data=batches(2) if rank == 0 else [])
    try:
        trainer.train()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def failing_reader(rank: int, world: int) -> str:
    def reading() -> Any:
        yield batch(0)
        if rank == 1:
            raise OSError("the disk is gone")
        yield batch(1)

    try:
        trainer_of(data=reading()).train()
    except Exception as error:
        return type(error).__name__
    return "no error"


STAGE = Stage(
    ddp, fsdp2, accumulated, accumulated_fsdp2, parameters_of_some_batches, evaluated, stopped, stopped_at_places, due_on_one,
    ended, resumed, without_empty, failing_reader,
)  # fmt: skip
ALONE = {"ddp": ddp, "fsdp2": ddp, "accumulated": accumulated, "accumulated_fsdp2": accumulated}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("scene", [*STAGE.scenes[:4], parameters_of_some_batches], ids=lambda scene: scene.__name__)
def test_as_on_one_process(scene: Any, world: int) -> None:
    """DDP and FSDP2; unequal rows, batches and numbers of them; accumulation; clipping; ranks at the end of their data."""
    ranks, want = STAGE.of(world, scene), ALONE.get(scene.__name__, scene)(0, 1)
    assert_same_run(ranks, want)
    for rank in ranks:
        assert (rank["counts"], rank["rows_of_steps"]) == (want["counts"], want["rows_of_steps"])
        np.testing.assert_allclose(rank["losses"], want["losses"], rtol=1e-5)  # of all ranks, on each


def test_a_comparison_fails_where_rows_are_weighed_otherwise() -> None:
    want = accumulated(0, 1)
    with pytest.raises(AssertionError):
        assert_same_run([run(0, 1, groups(0, 1), loss_weights={}, max_grad_norm=0.06, train_epoch=2)], want)


@pytest.mark.parametrize("world", WORLDS)
def test_evaluations_are_of_all_rows(world: int) -> None:
    want = evaluated(0, 1)
    for rank in STAGE.of(world, evaluated):
        assert rank == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("world", WORLDS)
def test_they_stop_save_and_end_together(world: int) -> None:
    whys = [rank["why"] for rank in STAGE.of(world, stopped)]
    assert [rank["step"] for rank in STAGE.of(world, stopped)] == [2] * world
    assert whys == ["another rank"] * (world - 1) + ["enough"]
    assert STAGE.of(world, stopped_at_places) == [[0, 0, 2]] * world
    assert STAGE.of(world, due_on_one) == [[2, 3]] * world
    assert STAGE.of(world, ended)[0] == {"saved": [2, 5], "status": 143}
    assert [rank["saved"] for rank in STAGE.of(world, ended)] == [[2, 5]] * world


@pytest.mark.parametrize("world", WORLDS)
def test_a_resumed_run_has_the_same_bits(world: int) -> None:
    assert STAGE.of(world, resumed) == [True] * world


@pytest.mark.parametrize("world", WORLDS)
def test_an_error_on_one_rank_is_raised_on_all(world: int) -> None:
    first, *others = STAGE.of(world, without_empty)
    assert first.startswith("ExchangeMismatch: rank(s) [1")
    assert all(said.startswith("ValueError: this rank has no batch to make an empty one of") for said in others)
    assert STAGE.of(world, failing_reader) == ["ExchangeMismatch", "OSError", *["ExchangeMismatch"] * (world - 2)]
