"""Hooks that act from time to time: evaluations, checkpoints, eviction, the early end."""

import json

import pytest

from recis_core.hooks import CheckpointHook, EarlyStopHook, EvaluateHook, EvictHook, Hook, PeriodicHook
from recis_core.nn import FilterHook
from tests.hooks.fake_run import FakeRun, Model, batch_of, batches


def test_evaluations_by_steps_and_at_the_end():
    run = FakeRun(EvaluateHook(4))
    run.train(batches(1, 10))
    assert run.evaluations == [4, 8, 10]
    run = FakeRun(EvaluateHook(5, at_end=False))
    run.train(batches(1, 12))
    assert run.evaluations == [5, 10]


def test_once_a_step_whatever_the_reasons():
    run = FakeRun(EvaluateHook(5, every_epochs=1))
    run.train(batches(1, 10))
    assert run.evaluations == [5, 10]


def test_by_epochs_and_windows():
    run = FakeRun(hook := EvaluateHook(every_epochs=2, every_windows=3, at_end=False))
    for epoch in range(1, 5):
        run.step, run.epoch = 10 * epoch, epoch
        hook.after_epoch(run)
    assert run.evaluations == [20, 40]
    for window in range(1, 5):
        run.step, run.window = 100 * window, window
        hook.after_window(run)
    assert run.evaluations == [20, 40, 300]


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"every_steps": 0}, ValueError, "every_steps must be at least 1; got 0"),
        ({"every_epochs": 1.5}, TypeError, "every_epochs must be an int; got 1.5"),
        ({"at_end": False}, ValueError, "needs every_steps, every_epochs, every_windows or at_end"),
    ],
)
def test_intervals_are_checked(options, error, said):
    with pytest.raises(error, match=said):
        PeriodicHook(**options)


def test_a_checkpoint_holds_what_later_hooks_did_in_its_step():
    order = []

    class Saves(CheckpointHook):
        def act(self, run):
            order.append(("save", run.step))

    class Evaluates(EvaluateHook):
        def act(self, run):
            order.append(("evaluate", run.step))

    FakeRun(Saves(every_steps=2), Evaluates(2)).train(batches(1, 2))
    assert order == [("evaluate", 2), ("save", 2)]


def test_checkpoints_by_the_run_itself():
    seen = []

    class Watching(Hook):
        def after_save(self, run, path):
            seen.append(path)

    run = FakeRun(CheckpointHook(every_steps=3), Watching())
    run.train(batches(1, 7))
    assert run.saves == [3, 6, 7]
    assert seen == ["step-3", "step-6", "step-7"]


def test_checkpoints_by_a_function():
    saved = []
    FakeRun(CheckpointHook(lambda run: saved.append(run.step), every_steps=3, at_end=False)).train(batches(1, 7))
    assert saved == [3, 6]


class Manager:
    """Saves after even steps. fails: the first save, in the background, which is told of after the next step or at the end."""

    def __init__(self, fails=False):
        self.saved, self.waited, self._fails = [], 0, fails

    def raise_failure(self):
        if self._fails and self.saved:
            self._fails = False
            raise OSError("no space left")

    def due(self, step):
        return step % 2 == 0

    def save(self, step, metrics=None):
        self.saved.append((step, metrics))

    def wait(self):
        self.waited += 1
        self.raise_failure()


def test_checkpoints_by_a_manager():
    manager = Manager()
    FakeRun(CheckpointHook(manager), EvaluateHook(3)).train(batches(1, 5))
    assert manager.saved == [(2, None), (4, None), (5, {"auc": 0.505})]
    assert manager.waited == 1


def test_a_save_that_failed_in_the_background_is_raised():
    run = FakeRun(CheckpointHook(Manager(fails=True)))
    with pytest.raises(OSError, match="no space left"):
        run.train(batches(1, 5))
    assert run.step == 3
    with pytest.raises(OSError, match="no space left"):
        FakeRun(CheckpointHook(Manager(fails=True))).train(batches(1, 2))


def test_after_an_error_saves_are_waited_for():
    manager = Manager()

    def broken():
        yield from batches(1, 3)
        raise RuntimeError("reader")

    with pytest.raises(RuntimeError, match="reader"):
        FakeRun(CheckpointHook(manager)).train(broken())
    assert manager.saved == [(2, None)]
    assert manager.waited == 1


def test_savers_that_are_none():
    with pytest.raises(TypeError, match="saver must be a CheckpointManager, a function of the run, or None.*got str"):
        CheckpointHook("checkpoints")
    with pytest.raises(ValueError, match=r"a manager decides by its own policy.*leave out every_"):
        CheckpointHook(Manager(), every_steps=5)


def stops_at(values, **options):
    """The evaluation after which a run with these values of the metric stops; None for none."""
    hook = EarlyStopHook("m", **options)
    run = FakeRun(hook)
    for step, value in enumerate(values, 1):
        run.step = step
        hook.after_evaluate(run, {"m": value})
        if run.stopped is not None:
            return step
    return None


NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "options", "stop"),
    [
        ([0.5, 0.6, 0.6, 0.59], {"patience": 2}, 4),
        ([0.5, 0.6, 0.6, 0.61, 0.6], {"patience": 2}, None),
        ([0.5, 0.4, 0.4, 0.4], {"mode": "min", "patience": 2}, 4),
        ([0.5, 0.51, 0.52, 0.53], {"patience": 3, "min_delta": 0.1}, 4),
        ([0.5, 0.625, 0.75, 0.875], {"patience": 1, "min_delta": 0.125}, None),
        ([NAN, NAN], {"patience": 2}, 2),
        ([NAN, 0.1, NAN, 0.2], {"patience": 2}, None),
        ([0.1, float("inf"), 0.2], {"patience": 1}, 2),
    ],
)
def test_early_stop(values, options, stop):
    assert stops_at(values, **options) == stop


def test_early_stop_in_a_run():
    hook = EarlyStopHook("auc", patience=2)
    run = FakeRun(hook, EvaluateHook(2), evaluates=lambda step: {"auc": 0.7 if step == 4 else 0.6})
    run.train(batches(1, 20))
    assert run.step == 8
    assert run.stopped == "auc has not improved in 2 evaluations; its best was 0.7 at step 4"
    assert (hook.best, hook.best_step) == (0.7, 4)


def test_early_stop_goes_on_from_its_state():
    hook, run = EarlyStopHook("m", patience=2), FakeRun()
    for step, value in ((1, 0.9), (2, 0.8)):
        run.step = step
        hook.after_evaluate(run, {"m": value})
    again = EarlyStopHook("m", patience=2)
    again.load_state_dict(json.loads(json.dumps(hook.state_dict())))
    run.step = 3
    again.after_evaluate(run, {"m": 0.85})
    assert run.stopped == "m has not improved in 2 evaluations; its best was 0.9 at step 1"


def test_early_stop_checks():
    with pytest.raises(ValueError, match='mode must be "max" or "min"; got \'up\''):
        EarlyStopHook("auc", mode="up")
    with pytest.raises(ValueError, match="patience must be at least 1"):
        EarlyStopHook("auc", patience=0)
    with pytest.raises(ValueError, match="min_delta must be at least 0 and finite; got nan"):
        EarlyStopHook("auc", min_delta=NAN)
    with pytest.raises(KeyError, match="waits for metric 'auc'; the evaluation has loss, gauc"):
        EarlyStopHook("auc").after_evaluate(FakeRun(), {"loss": 0.1, "gauc": 0.5})


def test_eviction():
    hook = EvictHook(5)
    run = FakeRun(hook, model=Model(filter_hook=FilterHook("LRU", {"max_rows": 10})))
    run.train(batches(1, 4))
    rows = {name: len(table.ids()) for name, table in run.model.embeddings.sparse_parameters().items()}
    assert min(rows.values()) > 10
    run._step(batch_of(5))
    after = {name: len(table.ids()) for name, table in run.model.embeddings.sparse_parameters().items()}
    assert after == {"item": 10, "user": 10}
    assert hook.evicted["item"] > 0
    assert hook.evicted["user"] >= rows["user"] - 10


def test_eviction_without_a_filter_is_told_at_the_begin():
    with pytest.raises(ValueError, match=r"tables \(item, user\) no one has a filter.*FilterHook"):
        FakeRun(EvictHook(5)).train(batches(1, 2))
