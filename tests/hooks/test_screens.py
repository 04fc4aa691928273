"""ProgressHook and TensorBoardHook, as a user sees them."""

import io
import logging
import re
import sys

import pytest
from rich.console import Console

from recis_core.hooks import EvaluateHook, ProgressHook, TensorBoardHook
from tests.hooks.fake_run import FakeRun, batches

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def shown(terminal, width=100, max_steps=10, steps=10):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width, color_system=None)
    FakeRun(ProgressHook(5, console=console), EvaluateHook(5), max_steps=max_steps).train(batches(1, steps))
    return console.file.getvalue()


def test_plain_lines_without_a_terminal():
    text = shown(False)
    assert CONTROL.search(text) is None
    lines = text.splitlines()
    assert [re.sub(r"[\d,.]+ rows/s", "N rows/s", re.sub(r"loss [\d.]+", "loss L", line)) for line in lines] == [
        "step 5  evaluation  auc 0.5050",
        "step 5  loss L  accuracy 0.0500  N rows/s",
        "step 10  evaluation  auc 0.5100",
        "step 10  loss L  accuracy 0.1000  N rows/s",
    ]


@pytest.mark.parametrize("width", [60, 100])
def test_a_bar_on_a_terminal(width):
    lines = [line for line in CONTROL.sub("", shown(True, width).replace("\r", "\n")).splitlines() if line.strip()]
    assert "step 5  evaluation  auc 0.5050" in [line.rstrip() for line in lines]
    assert re.match(r"training ━+ .*rows/s  loss 0\.\d{4}", lines[-1])
    assert max(map(len, lines)) <= width
    assert ("accuracy" in lines[-1]) == (width == 100)


def test_the_bar_is_gone_after_an_error():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    run = FakeRun(ProgressHook(5, console=console))

    def interrupted():
        yield from batches(1, 2)
        raise KeyboardInterrupt

    handlers = list(logging.getLogger("recis_core").handlers)
    with pytest.raises(KeyboardInterrupt):
        run.train(interrupted())
    assert console.file.getvalue().rstrip().endswith("\x1b[?25h")  # the cursor is back
    assert logging.getLogger("recis_core").handlers == handlers


def test_the_log_is_shown_above():
    console = Console(file=io.StringIO(), force_terminal=False, width=80)
    run = FakeRun(ProgressHook(5, console=console))

    def speaking():
        logging.getLogger("recis_core.somewhere").info("[compiling] 1 of 2")
        yield from batches(1, 1)

    run.train(speaking())
    assert console.file.getvalue().splitlines()[0] == "[compiling] 1 of 2"


def scalars(directory):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = accumulators.EventAccumulator(str(directory))
    board.Reload()
    return {tag: [(e.step, round(e.value, 4)) for e in board.Scalars(tag)] for tag in board.Tags()["scalars"]}


def test_tensorboard(tmp_path):
    run = FakeRun(TensorBoardHook(tmp_path, 5), EvaluateHook(5))
    run.train(batches(1, 10))
    found = scalars(tmp_path)
    assert found["evaluate/auc"] == [(5, 0.505), (10, 0.51)]
    assert found["train/accuracy"] == [(5, 0.05), (10, 0.1)]
    assert set(found) == {"evaluate/auc", "train/accuracy", "train/loss", "train/rows_per_s"}
    again = FakeRun(TensorBoardHook(tmp_path, 5), EvaluateHook(5), like=run)
    again.step = 5
    again.train(batches(6, 10))
    assert scalars(tmp_path)["evaluate/auc"] == [(5, 0.505), (10, 0.51)]


def test_a_missing_tensorboard_is_told_when_the_hook_is_made(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match=r"TensorBoardHook needs .*pip install 'recis-core\[tensorboard\]'"):
        TensorBoardHook(tmp_path)
