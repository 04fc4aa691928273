"""A run that is stopped at a step and goes on in another process has the bits of one that is not."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from recis_core.framework.counted_batches import CountedBatches
from recis_core.framework.random_state import check_random_state, random_state
from recis_core.framework.ranks import Ranks
from recis_core.framework.run_state import checked_counts
from recis_core.framework.state_by_rank import gather_states, state_of
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


@pytest.fixture(scope="module")
def undisturbed():
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    manager = Memory(every=1)
    trainer, heard = run_of(manager)
    trainer.train()
    return trainer, heard, manager, random_state()


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
    assert str(random_state()) == str(numbers)


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
    state = random_state()
    for part in ("torch", "numpy", "python"):
        broken = {**state, part: torch.zeros(3, dtype=torch.uint8) if part == "torch" else ["x", torch.zeros(1).long()]}
        with pytest.raises(ValueError, match="this is no state of random numbers"):
            check_random_state(broken)
    (packed,) = gather_states({"a": torch.arange(3), "b": [1, None]}, Ranks(Clicks()))
    assert str(state_of(packed)) == str({"a": torch.arange(3), "b": [1, None]})
    with pytest.raises(ValueError, match="a rank's own state cannot be read"):
        state_of(packed[:-1])
    manager = Memory(1)
    trainer = trainer_of(more={"checkpoints": manager})
    trainer.train(2)
    manager.saved[2]["run"]["progress"]["step"] = -1
    resumed = trainer_of(more={"checkpoints": manager})
    with pytest.raises(ValueError, match="progress must be counts"):
        resumed.restore()
    assert resumed.step == 0
