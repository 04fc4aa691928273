"""What `recis train` shows: a terminal of 80 and of 120 columns, none, JSON lines and TensorBoard, read as a user would."""

import io
import json
import logging
import math
import re
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from rich.console import Console

from recis_core.cli import slow_start
from recis_core.cli.progress_text import step_line
from recis_core.cli.report import JsonReport, PlainReport, SilentReport, counted
from recis_core.cli.screen import ScreenReport, rows_shown, text_report
from recis_core.cli.train import train
from recis_core.cli.train_config import TrainConfig
from recis_core.framework import Logged
from tests.cli.test_train import TINY, lines, run

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
BIG = Logged(123_450, 0.43218, 0.77123, 1_234_567.8)
CACHED = Logged(20, 0.4, 0.7, 50_000.0, {"hit_rate": 0.98765, "stalled": 0.0312, "evicted": 3})
NO_AUC = Logged(10, 0.6, math.nan, 5000.0, auc_note="it needs labels of both classes; all 8 labels are 0")
KEPT = ("1,234,568 rows/s", "loss 0.4322", "AUC 0.7712", "left 0:45:00")


class Loop(SimpleNamespace):
    def begin(self):
        self.began = True


def loop(rows=0, seconds=61.0):
    return Loop(rows=rows, seconds=seconds)


def screen(width, *logs, rows=5_000_000_000, done=1_666_668_530):
    """What a terminal of so many columns shows, line by line, at the end of training."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    report, trained = ScreenReport(console), loop()
    with report.training(rows, trained):
        for logged in logs:
            trained.rows = done
            report.log(logged)
    shown = console.file.getvalue().replace("\r", "\n")
    return [line for line in CONTROL.sub("", shown).splitlines() if line.strip()]


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_a_terminal_keeps_rate_loss_auc_and_time_left(width):
    shown = screen(width, BIG)
    assert max(map(len, shown)) <= width
    assert all(part in shown[-1] for part in KEPT), shown[-1]
    assert re.match(r"training ━[━╸ ]{9}", shown[-1])
    assert "…" not in shown[-1]
    assert ("1,666,668,530/5,000,000,000 rows" in shown[-1]) == (width >= 120)


@pytest.mark.parametrize("width", [20, 40, 60])
def test_a_narrow_terminal_shows_what_fits(width):
    shown = screen(width, BIG)
    assert max(map(len, shown)) <= width
    assert ("1,234,568 rows/s" in shown[-1]) == (width >= 40)


def test_at_120_columns_the_cache_is_seen_too():
    last = screen(120, CACHED, rows=100_000, done=50_000)[-1]
    assert "50,000/100,000 rows  50,000 rows/s  loss 0.4000  AUC 0.7000  left 0:00:01  on device 98.8 %" in last
    assert "on device" not in screen(80, CACHED, rows=100_000, done=50_000)[-1]


def test_notes_stand_above_the_bar():
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    report = ScreenReport(console)
    with report.training(100, loop()):
        logging.getLogger("recis_core.backends.compiling").info("numba compiles [its] loops")
    assert "numba compiles [its] loops\n" in CONTROL.sub("", console.file.getvalue())


def test_why_there_is_no_auc_is_said_once():
    shown = screen(80, NO_AUC, NO_AUC, rows=100, done=50)
    assert sum("AUC is nan at step 10: it needs labels" in line for line in shown) == 1
    assert "AUC nan" in shown[-1]


def test_a_resumed_run_begins_where_it_is():
    """The bar, and the time left, which goes by rows that are left."""
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    report, resumed = ScreenReport(console), loop(rows=900)
    with report.training(1000, resumed):
        resumed.rows = 950
        report.log(Logged(19, 0.5, 0.6, 10.0))
    assert "left 0:00:05" in console.file.getvalue()
    assert resumed.began


def test_compilation_is_in_the_rate_and_not_in_the_time_left():
    first = Logged(10, 0.6, 0.5, 1000.0, compiling=0.9)
    assert "1,000 rows/s" in step_line(first, 10_000, 110_000)
    assert "left 0:00:10" in step_line(first, 10_000, 110_000)


def test_evaluation_shows_rows():
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    with ScreenReport(console).evaluating() as told:
        told(81_920)
    assert "evaluating  81,920 rows after 0:00:00" in CONTROL.sub("", console.file.getvalue())


def test_without_a_terminal_a_line_a_log_interval(capsys):
    report, trained = text_report(Console(file=io.StringIO(), width=80)), loop()
    assert isinstance(report, PlainReport)
    with report.training(200_000, trained):
        for k in (1, 2):
            trained.rows = k * 20_480
            report.log(Logged(10 * k, 0.5, 0.6, 10_000.0, CACHED.cache))
        report.log(NO_AUC)
        report.log(NO_AUC)
        logging.getLogger("recis_core").info("jax compiles")
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "training: 200,000 rows",
        "step 10  20,480/200,000 rows  10,000 rows/s  loss 0.5000  AUC 0.6000  left 0:00:18  on device 98.8 %  stalled 3 %",
        "step 20  40,960/200,000 rows  10,000 rows/s  loss 0.5000  AUC 0.6000  left 0:00:16  on device 98.8 %  stalled 3 %",
        "step 10  40,960/200,000 rows  5,000 rows/s  loss 0.6000  AUC nan  left 0:00:32",
        "AUC is nan at step 10: it needs labels of both classes; all 8 labels are 0",
        "step 10  40,960/200,000 rows  5,000 rows/s  loss 0.6000  AUC nan  left 0:00:32",
        "jax compiles",
    ]
    assert out.isprintable() or set(filter(lambda c: not c.isprintable(), out)) == {"\n"}


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(text_report(Console(file=io.StringIO(), force_terminal=True)), PlainReport)


def test_a_long_evaluation_says_how_far_it_is(monkeypatch, capsys):
    now = iter(range(0, 100, 2))
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    with PlainReport().evaluating() as told:
        for k in range(1, 5):
            told(k * 8192)
    assert capsys.readouterr().out.splitlines() == ["evaluating", "evaluating: 24,576 rows so far"]


def test_eval_and_predict_show_rows_on_standard_error_where_they_take_long(monkeypatch, capsys):
    now = iter(range(0, 100, 3))
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    for shown in (True, False):
        with rows_shown("scoring", shown) as told:
            told(8192)
            told(16_384)
            logging.getLogger("recis_core.backends").info("compiles")
    out, err = capsys.readouterr()
    assert (out, err.splitlines()) == ("", ["scoring: 16,384 rows so far", "compiles"])


class Three:
    """A report of a program that calls train()."""

    def __init__(self):
        self.steps, self.result = [], None

    def training(self, rows, loop):
        return nullcontext()

    def log(self, logged):
        self.steps.append(logged.step)

    def final(self, final):
        self.result = final


def test_a_report_of_three_methods_is_enough():
    heard = Three()
    got = train(TrainConfig(preset="tiny", rows=3000, batch_size=900, dim=4, backend="torch", log_every=1), heard)
    assert (heard.steps, heard.result) == ([1, 2, 3], got)


def test_rows_are_counted_as_batches_are_done():
    told = []
    batches = counted(({"label": [0] * n} for n in (3, 4)), told.append)
    assert [(len(batch["label"]), list(told)) for batch in batches] == [(3, []), (4, [3])]
    assert told == [3, 7]


def test_a_run_without_a_terminal_prints_plain_text(capsys):
    status, out, err = run(capsys, *TINY, "--backend", "torch", "--log-every", "2")
    assert status == 0, err
    text = [line for line in out.splitlines() if line != "recis train: loading PyTorch"]  # on a busy machine
    assert text[:2] == ["deepfm on tiny, tables by torch", "training: 2,700 rows"]
    assert [line.split()[:2] for line in text[2:5]] == [["step", "2"], ["step", "4"], ["step", "6"]]
    assert text[5] == "evaluating"
    assert re.fullmatch(
        r"6 steps on torch, 2,700 rows in [\d.]+ s: [\d,]+ rows/s, [\d,]+ rows in tables, test log loss 0\.\d{4}",
        text[6],
    )
    assert "\x1b" not in out


def test_what_is_said_of_a_resumed_run_is_of_its_own_rows(capsys, tmp_path):
    lines(capsys, *TINY, "--backend", "torch", "--steps", "4", "--save", str(tmp_path))
    *logged, final = lines(capsys, *TINY, "--backend", "torch", "--resume", str(tmp_path), "--log-every", "1")
    assert [line["step"] for line in logged] == [5, 6]
    assert (final["steps"], final["trained_rows"]) == (6, 700)
    assert final["rows_per_s"] == pytest.approx(700 / final["train_seconds"])
    assert 0 <= final["compile_seconds"] <= final["train_seconds"]
    in_windows = 500 / logged[0]["rows_per_s"] + 200 / logged[1]["rows_per_s"]
    assert final["train_seconds"] == pytest.approx(in_windows), "wall time, of which nothing is left out"


@pytest.mark.parametrize("cache", [[], ["--cache-device-rows", "500", "--prefetch", "2"]])
def test_json_lines_hold_what_tensorboard_gets(capsys, tmp_path, cache):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    args = [*TINY, "--backend", "numba", "--log-every", "2", "--tensorboard", str(tmp_path), *cache]
    *logged, final = lines(capsys, *args)
    board = accumulators.EventAccumulator(str(tmp_path))
    board.Reload()
    got = {tag: {e.step: e.value for e in board.Scalars(tag)} for tag in board.Tags()["scalars"]}
    want = {f"test/{name}": {final["steps"]: final[name]} for name in ("auc", "logloss")}
    for line in logged:
        step, of_cache = line.pop("step"), line.pop("cache", {})
        for group, numbers in (("train", line), ("cache", of_cache)):
            for name, value in numbers.items():
                want.setdefault(f"{group}/{name}", {})[step] = value
    assert got.keys() == want.keys()
    assert bool(cache) == any(tag.startswith("cache/") for tag in got)
    assert {"train/loss", "train/auc", "train/rows_per_s"} <= got.keys()
    for tag, values in want.items():
        assert got[tag] == pytest.approx(values, rel=1e-6), tag


def test_json_knows_no_nan(capsys):
    report = JsonReport()
    report.log(NO_AUC)
    report.note("numba compiles")
    with report.evaluating(), report.training(1, loop()):
        logging.getLogger("recis_core").info("jax compiles")
    report.final({"auc": math.nan, "cache": {"x": math.inf}, "rows": 3})
    out, err = capsys.readouterr()
    step, final = (json.loads(line, parse_constant=pytest.fail) for line in out.splitlines())
    assert step == {"step": 10, "loss": 0.6, "auc": None, "rows_per_s": 5000.0, "auc_note": NO_AUC.auc_note}
    assert final == {"auc": None, "cache": {"x": None}, "rows": 3}
    assert err == ""


@pytest.mark.parametrize("label", [0, 1])
def test_a_log_of_one_class_trains_and_says_so(capsys, tmp_path, label):
    file = tmp_path / "one.parquet"
    pyarrow.parquet.write_table(pa.table({"y": np.full(200, label, np.float32), "i": np.arange(200)}), file)
    args = ["train", "--data", str(file), "--label", "y", "--batch-size", "50", "--backend", "torch"]
    status, out, err = run(capsys, *args)
    assert status == 0, err
    assert f"AUC is nan at step 4: it needs labels of both classes; all 180 labels are {label}" in out
    assert f"test AUC nan (it needs labels of both classes; all 20 labels are {label})" in out
    final = lines(capsys, *args)[-1]
    assert final["auc"] is None
    assert final["auc_note"].endswith(f"all 20 labels are {label}")


def test_messages_are_shown_while_a_report_lasts_and_no_longer(capsys):
    logger = logging.getLogger("recis_core")
    before = logger.level, list(logger.handlers)
    with SilentReport().training(1, loop()):
        logger.info("of another rank")
    with PlainReport().evaluating():
        logger.info("shown")
        logger.debug("not shown")
    assert (logger.level, logger.handlers) == before
    out, err = capsys.readouterr()
    assert (out, err) == ("evaluating\nshown\n", "")


@pytest.mark.parametrize(
    ("flags", "rows"),
    [
        ({}, 1000), ({"epochs": 3}, 3000), ({"steps": 2}, 600), ({"steps": 4, "epochs": 2}, 1000),
        ({"steps": 5, "epochs": 2}, 1300), ({"steps": 99}, 1000),
    ],
)  # fmt: skip
def test_rows_in_all(flags, rows):
    assert TrainConfig(preset="tiny", batch_size=300, **flags).rows_in_all(1000) == rows


def test_a_slow_start_is_said(monkeypatch, capsys):
    monkeypatch.setattr(slow_start, "AFTER", 0.0)
    with slow_start.said_if_slow("loading") as _:
        for thread in slow_start.threading.enumerate():
            if isinstance(thread, slow_start.threading.Timer):
                thread.join()
    monkeypatch.setattr(slow_start, "AFTER", 1000.0)
    with slow_start.said_if_slow("never"):
        pass
    assert capsys.readouterr().out == "loading\n"


def test_json_says_nothing_of_a_start(monkeypatch, capsys):
    monkeypatch.setattr(slow_start, "AFTER", 0.0)
    assert lines(capsys, *TINY, "--backend", "torch", "--steps", "1")[-1]["final"]
