"""Signals: the first ends a script after the step, saved, with 143 or 130; a second Ctrl-C ends it at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from recis_core.framework import Stopped, ending_on_signals
from recis_core.framework import ending as endings
from recis_core.hooks import Hook
from tests.framework.trainers import Heard, Memory, assert_same_weights, batches, trainer_of

ROOT = Path(__file__).parents[2]
INT, TERM = signal.SIGINT, signal.SIGTERM


class Sending(Hook):
    """Sends signals at a step, at a place."""

    def __init__(self, place: str, step: int, *numbers: int) -> None:
        def send(run, *args):
            if run.step == step:
                for number in numbers:
                    signal.raise_signal(number)

        setattr(type(self), place, staticmethod(send))


def sending(place, step, *numbers):
    return type("Sending", (Sending,), {})(place, step, *numbers)


def status_of(work):
    """With which a script of this work exits."""
    with pytest.raises(SystemExit) as left, ending_on_signals():
        work()
    return left.value.code


@pytest.mark.parametrize(("number", "status"), [(INT, 130), (TERM, 143)])
def test_the_step_ends_and_is_saved(number, status):
    handlers = signal.getsignal(INT), signal.getsignal(TERM)
    manager, heard = Memory(), Heard()
    trainer = trainer_of(more={"checkpoints": manager, "hooks": [heard, sending("before_step", 2, number)]})
    assert status_of(trainer.train) == status
    assert (signal.getsignal(INT), signal.getsignal(TERM)) == handlers
    assert (trainer.step, list(manager.saved), trainer.stopped_by) == (3, [3], "a signal")
    assert heard.places[-3:] == ["after_save", "after_train", "end"]
    whole, resumed = trainer_of(), trainer_of(more={"checkpoints": manager})
    resumed.restore()
    for each in (whole, resumed):
        each.train()
    assert_same_weights(resumed.model, whole.model)


def test_a_second_ctrl_c_ends_at_once():
    manager, heard = Memory(), Heard()
    trainer = trainer_of(more={"checkpoints": manager, "hooks": [heard, sending("before_step", 2, INT, INT)]})
    assert (status_of(trainer.train), trainer.step, manager.saved) == (130, 2, {})
    assert heard.places[-2:] == ["on_error Stopped", "end"]


def test_a_signal_in_an_evaluation_ends_it():
    manager, heard = Memory(), Heard()
    hooks = [heard, sending("before_evaluate", 4, TERM)]
    trainer = trainer_of(evaluation=batches(50), eval_steps=2, more={"checkpoints": manager, "hooks": hooks})
    assert status_of(trainer.train) == 143
    assert (trainer.step, manager.saved.keys(), len(heard.metrics)) == (4, {4}, 1)


def test_outside_of_training_a_signal_ends_at_once():
    after = []
    assert status_of(lambda: (signal.raise_signal(TERM), after.append("never here"))) == 143
    assert after == []


def test_without_signals_nothing_changes():
    with ending_on_signals() as ending:
        trainer_of().train()
    assert (ending.asked, ending.hurried) == (0, False)
    with pytest.raises(KeyError), ending_on_signals():
        raise KeyError("of the script")


@pytest.mark.parametrize(("number", "status"), [(INT, 130), (TERM, 143)])
def test_a_trainer_listens_by_itself(number, status):
    handlers, manager = (signal.getsignal(INT), signal.getsignal(TERM)), Memory()
    trainer = trainer_of(more={"checkpoints": manager, "hooks": [sending("before_step", 2, number)]})
    with pytest.raises(SystemExit) as left:
        trainer.train()
    assert (left.value.code, list(manager.saved)) == (status, [3])
    assert (signal.getsignal(INT), signal.getsignal(TERM)) == handlers
    trainer.train()
    assert (trainer.stopped_by, trainer.step > 3) == (None, True)


def test_an_interactive_session_goes_on(monkeypatch):
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    manager = Memory()
    with pytest.raises(KeyboardInterrupt):
        trainer_of(more={"checkpoints": manager, "hooks": [sending("before_step", 2, INT)]}).train()
    assert list(manager.saved) == [3]


def test_a_programs_own_handlers_stay():
    heard, before = [], signal.signal(TERM, lambda number, frame: heard.append(number))
    try:
        trainer = trainer_of(more={"hooks": [sending("before_step", 2, TERM)]})
        trainer.train()
        assert (heard, trainer.stopped_by) == ([TERM], None)
        with pytest.raises(KeyboardInterrupt):
            trainer_of(more={"hooks": [sending("before_step", 1, INT)]}).train()
    finally:
        signal.signal(TERM, before)


def test_signals_may_be_left_to_python():
    with pytest.raises(KeyboardInterrupt):
        trainer_of(end_on_signals=False, more={"hooks": [sending("before_step", 1, INT)]}).train()


def test_torchrun_repeats_a_ctrl_c(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a run")
    manager = Memory()
    hooks = [sending("before_step", 2, INT, INT)]
    assert status_of(trainer_of(more={"checkpoints": manager, "hooks": hooks}).train) == 130
    assert list(manager.saved) == [3]
    monkeypatch.setattr(endings, "ECHO", 0.0)
    manager, hooks = Memory(), [sending("before_step", 2, INT, INT)]
    assert status_of(trainer_of(more={"checkpoints": manager, "hooks": hooks}).train) == 130
    assert manager.saved == {}


def test_a_thread_hears_none():
    found = []

    def work():
        with ending_on_signals() as ending:
            trainer_of().train()
            found.append(ending.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [0]
    assert issubclass(Stopped, BaseException)
    assert not issubclass(Stopped, Exception)


SCRIPT = """
import sys, time
from recis_core.framework import ending_on_signals
from recis_core.hooks import Hook
from tests.framework.trainers import Memory, batches, trainer_of

class Slow(Hook):
    def after_step(self, run, result):
        print(run.step, flush=True)
        time.sleep(0.05)

try:
    with ending_on_signals():
        manager = Memory()
        trainer_of(data=batches(400), more={"hooks": [Slow()], "checkpoints": manager}).train()
finally:
    print("saved", *manager.saved, flush=True)
"""


@pytest.mark.full
def test_a_process():
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], env=env, stdout=subprocess.PIPE, text=True)
    lines = [process.stdout.readline()]
    process.send_signal(TERM)
    rest = process.communicate(timeout=60)[0].split("\n")[:-1]
    assert process.returncode == 143
    assert rest[-1] == f"saved {[*lines, *rest[:-1]][-1].strip()}"
