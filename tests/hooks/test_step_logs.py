"""Hooks that tell of steps: what they tell, and that a resumed run tells the same."""

import json
import logging

import pytest

from recis_core.hooks import EvaluateHook, LoggerHook, StepLog, StepResult
from recis_core.hooks.json_line import json_line
from tests.hooks.fake_run import FakeRun, batches


class Told(StepLog):
    def __init__(self, every=10):
        super().__init__(every)
        self.lines = []

    def tell(self, run, logged):
        self.lines.append((logged.step, logged.steps, logged.losses, logged.metrics, logged.partial))


def test_means_are_over_the_rows_since_the_last_line():
    hook, run = Told(2), FakeRun()
    run.hooks = [hook]
    hook.before_train(run)
    for step, loss, rows in ((1, 1.0, 30), (2, 4.0, 10), (3, 0.5, 4), (4, 100.0, 0)):
        run.step, run.rows = step, run.rows + rows
        hook.after_step(run, StepResult(step, loss, rows, {"ctr": 2 * loss}, {"auc": loss}))
    assert hook.lines[0] == (2, 2, {"loss": 1.75, "loss/ctr": 3.5}, {"auc": 4.0}, False)
    assert hook.lines[1] == (4, 2, {"loss": 0.5, "loss/ctr": 1.0}, {"auc": 100.0}, False)


def test_a_step_without_rows_has_no_loss():
    hook, run = Told(1), FakeRun()
    run.step = 1
    hook.after_step(run, StepResult(1, float("nan"), 0))
    assert json_line(hook.lines[0][2]) == '{"loss": null}'


def test_what_is_left_is_told_at_the_end():
    hook = Told(3)
    FakeRun(hook).train(batches(1, 8))
    assert [(step, steps, partial) for step, steps, _, _, partial in hook.lines] == [
        (3, 3, False), (6, 3, False), (8, 2, True),
    ]  # fmt: skip


@pytest.mark.parametrize("stop", range(1, 12))
def test_a_resumed_run_tells_what_an_undisturbed_one_does(stop):
    undisturbed = Told(4)
    FakeRun(undisturbed).train(batches(1, 12))
    first = Told(4)
    run = FakeRun(first)
    run.train(batches(1, stop))
    state = json.loads(json.dumps(run.state()))  # as plain as a checkpoint wants
    second = Told(4)
    resumed = FakeRun(second, like=run)
    resumed.load(state)
    resumed.train(batches(stop + 1, 12))
    told = [line for line in first.lines if not line[-1]] + second.lines
    assert told == undisturbed.lines


def test_other_ranks_tell_nothing_and_keep_the_same_state():
    hook, run = Told(2), FakeRun()
    run.hooks, run.rank = [hook], 1
    run.train(batches(1, 5))
    first = FakeRun(Told(2))
    first.train(batches(1, 5))
    assert hook.lines == []
    assert hook.state_dict() == first.hooks[0].state_dict()


def test_logger_hook(caplog):
    with caplog.at_level(logging.INFO, "recis_core"):
        FakeRun(LoggerHook(5), EvaluateHook(5)).train(batches(1, 10))
    lines = [record.getMessage() for record in caplog.records if "logger_hook" in record.name]
    assert [line.split("  ")[0] for line in lines] == ["step 5", "step 5", "step 10", "step 10"]
    assert lines[0] == "step 5  evaluation  auc 0.5050"
    assert "  loss 0." in lines[1]
    assert "  accuracy 0.0500  " in lines[1]
    assert lines[1].endswith(" rows/s")


@pytest.mark.parametrize(("every", "error"), [(0, ValueError), (2.0, TypeError), (True, TypeError), (-3, ValueError)])
def test_every_is_a_count(every, error):
    with pytest.raises(error, match=r"every must be .*; got"):
        StepLog(every)
