"""Data sets with positions, and windows: trained in order, evaluated on the next, resumed inside and at an end."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recis_core.hooks import Hook
from recis_core.io import ParquetDataset
from tests.framework.trainers import Clicks, Heard, Memory, assert_same_weights, trainer_of

FULL = os.environ.get("RECIS_TEST_FULL") == "1"
DAYS, ROWS = 3, 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A file a day, of 40 rows each."""
    path = tmp_path_factory.mktemp("days")
    draw = np.random.default_rng(5)
    for day in range(DAYS):
        columns = {name: draw.integers(0, 40, ROWS) for name in ("user", "item")}
        labels = draw.integers(0, 2, ROWS).astype(np.float32)
        pq.write_table(pa.table({**columns, "label": labels}), path / f"day={day}.parquet")
    return path


def dataset(folder, *, shuffle=False):
    data = ParquetDataset(8, shuffle=shuffle)
    data.add_path(str(folder))
    for name in ("user", "item", "label"):
        data.fixedlen_feature(name, default_value=[0.0] if name == "label" else [0])
    return data.map(lambda batch: {name: value.reshape(-1) for name, value in batch.items()})


def windows(folder, **how):
    return dataset(folder).windows(pattern=r"day=(\d)", **how)


def run_of(data, manager=None, evaluation=None, **args):
    heard = Heard()
    return trainer_of(
        Clicks(dropout=0.2), data, evaluation, more={"hooks": [heard], "checkpoints": manager}, **args
    ), heard


def test_windows_train_on_one_and_evaluate_on_the_next(folder):
    trainer, heard = run_of(windows(folder), eval_steps=4)
    trainer.train_and_evaluate()
    assert (trainer.step, trainer.rows, trainer.epoch, trainer.window) == (10, 80, 2, 2)
    assert [p for p in heard.places if "window" in p or "epoch" in p or "after_evaluate" in p] == [
        "before_window", "before_epoch", "after_evaluate", "after_epoch", "after_evaluate", "after_window",
        "before_window", "before_epoch", "after_evaluate", "after_epoch", "after_evaluate", "after_window",
    ]  # fmt: skip
    last, _ = run_of(windows(folder, train_last=True))
    last.train_and_evaluate()
    assert (last.step, last.window) == (15, 3)


class EverySave(Hook):
    """Saves wherever a hook may: after steps, epochs, windows and evaluations of windows."""

    def __init__(self):
        self.at = {}

    def after_epoch(self, run):
        self._note(run, "epoch")

    def after_window(self, run):
        self._note(run, "window")

    def after_evaluate(self, run, metrics):
        self._note(run, "evaluation")

    def _note(self, run, place):
        run.save()
        self.at[place, run.step] = run._pieces.checkpoints._manager.saved[run.step]


@pytest.mark.parametrize("passes", [1, 2])
def test_windows_resume_anywhere(folder, passes):
    manager, saving = Memory(every=1), EverySave()
    whole, heard = run_of(windows(folder), manager, train_epoch=passes, gradient_accumulation_steps=2)
    whole.add_hook(saving)
    whole.train_and_evaluate()
    assert whole.step == 2 * passes * 3
    states = {("step", step): state for step, state in manager.saved.items()} | saving.at
    tried = list(states) if FULL else [k for k in states if k[1] in (2, 3, 6)]
    for place, step in tried:
        resumed = Memory()
        resumed.saved[step] = states[place, step]
        trainer, again = run_of(windows(folder), resumed, train_epoch=passes, gradient_accumulation_steps=2)
        trainer.restore()
        trainer.train_and_evaluate()
        assert_same_weights(trainer.model, whole.model)
        assert again.results == heard.results[step:], (place, step)
        assert (trainer.step, trainer.rows, trainer.epoch, trainer.window) == (whole.step, whole.rows, whole.epoch, 2)
        assert again.metrics == heard.metrics[len(heard.metrics) - len(again.metrics) :]


def test_windows_in_several_calls(folder):
    whole, _ = run_of(windows(folder), train_epoch=2)
    whole.train()
    parts, _ = run_of(windows(folder), train_epoch=2)
    for steps in (3, 5, 9, 13, None):
        parts.train(steps)
    assert (parts.step, parts.epoch, parts.window) == (20, 4, 2)
    assert_same_weights(parts.model, whole.model)


@pytest.mark.parametrize("accumulated", [1, 4])
def test_a_data_set_resumes_anywhere(folder, accumulated):
    """Of 15 batches; with four a step the last of an epoch has three, and is read with the epoch's end."""

    def run(manager):
        return run_of(
            dataset(folder, shuffle=True), manager, dataset(folder), train_epoch=2, eval_steps=3,
            gradient_accumulation_steps=accumulated,
        )  # fmt: skip

    manager = Memory(every=1)
    whole, heard = run(manager)
    whole.train()
    steps = len(heard.results) // 2
    for step in range(1, 2 * steps + 1) if FULL else (2, steps, steps + 1, 2 * steps):
        trainer, again = run(manager.copy())
        trainer.restore(step)
        trainer.train()
        assert again.results == heard.results[step:], step
        assert again.metrics == heard.metrics[step // 3 :]
        assert trainer.epoch == whole.epoch == 2
        assert_same_weights(trainer.model, whole.model)


def test_a_data_set_in_several_calls(folder):
    whole, _ = run_of(dataset(folder, shuffle=True), train_epoch=2, gradient_accumulation_steps=4)
    whole.train()
    parts, _ = run_of(dataset(folder, shuffle=True), train_epoch=2, gradient_accumulation_steps=4)
    for steps in (2, 4, 5, None):
        parts.train(steps)
    assert (parts.step, parts.epoch) == (whole.step, whole.epoch) == (8, 2)
    assert_same_weights(parts.model, whole.model)


def test_the_data_that_is_trained_on_is_not_read_anew(folder):
    data = dataset(folder)
    trainer, _ = run_of(data, None, data, eval_steps=2)
    with pytest.raises(ValueError, match="the data set that is trained on cannot be read anew meanwhile"):
        trainer.train()


def test_a_stop_at_a_windows_end(folder):
    class Stopping(Hook):
        def after_window(self, run):
            run.stop("a day is done")

    heard = Heard()
    trainer = trainer_of(Clicks(), windows(folder), more={"hooks": [heard, Stopping()]})
    trainer.train()
    assert (trainer.step, trainer.window, heard.places.count("before_window")) == (5, 1, 1)
    trainer.train()
    assert (trainer.step, trainer.window, heard.places.count("before_window")) == (10, 2, 2)
