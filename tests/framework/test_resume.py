"""A run that is stopped at a step and goes on in another process has the bits of one that is not."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from recis_core.framework.counted_batches import CountedBatches
from recis_core.framework.named_metrics import NamedMetrics
from recis_core.framework.rank_state import RankState
from recis_core.framework.run_state import checked_counts
from recis_core.hooks import Hook
from recis_core.metrics import AUROC
from tests.framework.trainers import Clicks, Heard, Memory, assert_same_weights, batches, optimizers_of, trainer_of

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
STEPS = 14  # of a run: 2 epochs of 20 batches, three a step, the last step of two


class Drawing(Clicks):
    """Reads random numbers of all three kinds."""

    def forward(self, batch):
        return super().forward(batch) + 0.1 * np.random.rand() + 0.1 * random.random()


def run_of(manager, **more):
    model, heard = Drawing(dropout=0.3), Heard()
    optimizer = optimizers_of(model)
    parts = {
        "optimizers": optimizer, "checkpoints": manager, "hooks": [heard], "metrics": {"auc": AUROC()},
        "train_metrics": {"auc": AUROC()}, "schedulers": CosineAnnealingLR(optimizer, STEPS), **more,
    }  # fmt: skip
    trainer = trainer_of(
        model, batches(20), batches(2), more=parts, train_epoch=2, gradient_accumulation_steps=3,
        mixed_precision="fp16", max_grad_norm=0.5, eval_steps=4, log_steps=5,
    )  # fmt: skip
    return trainer, heard


def numbers_drawn():
    return torch.rand(1).item(), float(np.random.rand()), random.random()


@pytest.fixture(scope="module")
def undisturbed():
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    manager = Memory(every=1)
    trainer, heard = run_of(manager)
    trainer.train()
    return trainer, heard, manager, numbers_drawn()


@pytest.mark.parametrize("step", range(1, STEPS + 1) if FULL else [1, 5, 7, 12, 14])
def test_from_any_step_the_same_bits(undisturbed, step):
    """Loss, metrics, schedules, scaler, random numbers, tables and slots; step 7 ends an epoch."""
    whole, heard, manager, numbers = undisturbed
    torch.manual_seed(99)
    trainer, again = run_of(manager.copy())
    assert trainer.restore(step).step == trainer.step == step
    assert again.before == [result.loss for result in heard.results[:step]]
    trainer.train()
    assert_same_weights(trainer.model, whole.model)
    assert again.results == heard.results[step:]
    assert again.metrics == heard.metrics[step // 4 :]
    assert (trainer.step, trainer.rows, trainer.epoch) == (whole.step, whole.rows, whole.epoch)
    assert numbers_drawn() == numbers


def test_without_its_random_numbers_other_bits_come(undisturbed):
    whole, _, manager, _ = undisturbed
    trainer, _ = run_of(manager.copy())
    trainer.restore(7)
    torch.manual_seed(99)
    trainer.train()
    with pytest.raises(AssertionError):
        assert_same_weights(trainer.model, whole.model)


def test_the_first_start_of_a_script_that_restores():
    trainer, _ = run_of(Memory())
    assert trainer.restore() is None
    trainer.train()
    assert trainer.step == STEPS


def test_a_save_beside_a_save_of_the_same_step_is_left_out():
    class Saving(Hook):
        def after_step(self, run, result):
            if run.step == 3:
                run.save()

    saves = []

    class Counting(Memory):
        def save(self, step, metrics=None):
            saves.append(step)
            return super().save(step, metrics)

    trainer_of(more={"checkpoints": Counting(3), "hooks": [Saving()]}).train()
    assert saves == [3, 6]


def test_hooks_find_their_state_by_their_class(caplog):
    class Other(Heard):
        pass

    manager = Memory(1)
    trainer_of(more={"checkpoints": manager, "hooks": [Heard(), Other()]}).train(2)
    other, plain = Other(), Heard()
    trainer_of(more={"checkpoints": manager, "hooks": [other, plain]}).restore()
    assert len(other.before) == len(plain.before) == 2
    trainer_of(more={"checkpoints": manager, "hooks": [Heard()]}).restore()
    assert "this run has no Other, whose state the checkpoint holds" in caplog.text


def test_counted_batches_go_on():
    data = CountedBatches([1, 2, 3, 4])
    source = iter(data)
    assert [next(source), next(source)] == [1, 2]
    other = CountedBatches([1, 2, 3, 4])
    other.load_state_dict(data.state_dict())
    assert [list(other), list(other)] == [[3, 4], [1, 2, 3, 4]]
    data.go_on()
    assert list(data) == [3, 4]
    once = CountedBatches(iter([1, 2, 3, 4]))
    next(iter(once))
    once.go_on()
    assert list(once) == [2, 3, 4]
    with pytest.raises(ValueError, match="a position in plain batches is a count; got"):
        data.load_state_dict({"rows": 3})


def test_damaged_states_are_refused():
    with pytest.raises(
        ValueError, match="progress must be counts step, rows, epoch, window, epoch_in_window, mid_epoch; got"
    ):
        checked_counts({"step": 3})
    for part, damage, said in (
        ("run", lambda run: run["progress"].update(step=-1), "progress must be counts"),
        ("data", lambda data: data.pop("metrics"), r"the state of a rank's data lacks \['metrics'\]"),
    ):
        manager = Memory(1)
        trainer_of(more={"checkpoints": manager}).train(2)
        damage(manager.saved[2][part])
        resumed = trainer_of(more={"checkpoints": manager})
        with pytest.raises(ValueError, match=said):
            resumed.restore()


def test_positions_of_another_number_of_ranks():
    """Counted batches refuse them; what shares rows out gets all of them, and metrics in work begin anew."""
    metric, at = AUROC(), []

    class Shared(list):
        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            at.append(state)

    trainer = trainer_of(data=Shared(batches(2)), more={"train_metrics": {"auc": metric}})
    trainer.train_step([batches(1)[0]])
    own = RankState(trainer, trainer.train_dataset, NamedMetrics({"auc": metric}, lambda batch: batch["label"]))
    state = own.state_dict()
    own.load_state_dict([state, state])
    assert (at, own.of_another_world, trainer.at_end) == ([[{}, {}]], True, False)
    assert metric.undefined is not None
    own.load_state_dict(state)
    assert (at[1:], own.of_another_world, metric.undefined) == ([{}], False, None)
    with pytest.raises(ValueError, match="go on at the number of ranks with which they began"):
        CountedBatches([]).load_state_dict([{"batches": 1}, {"batches": 1}])
