"""SIGTERM and Ctrl-C: after the step, saved, one line, 143 or 130; a second Ctrl-C at once."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import recis_core.cli.train
import recis_core.io.dataset
import recis_core.io.synthetic.write
import recis_core.serialize.saved_state
from recis_core.cli import main
from recis_core.cli.report import SilentReport
from recis_core.cli.stopping import current, ending_well
from recis_core.cli.train import train
from recis_core.cli.train_config import TrainConfig
from recis_core.framework import Trainer
from recis_core.serialize import CheckpointManager, latest_state
from recis_core.uninterrupted import uninterrupted
from tests.cli import signals
from tests.exchange.ranks import run_ranks

INT, TERM = signal.SIGINT, signal.SIGTERM
TINY = {"preset": "tiny", "rows": 3000, "batch_size": 250, "dim": 4, "lr": 0.01, "backend": "numba"}
FLAGS = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]
FULL = os.environ.get("RECIS_TEST_FULL") == "1"


def run(capsys: Any, *more: str) -> tuple[int, list[dict[str, Any]], list[str]]:
    """(status, JSON lines, lines of stderr)"""
    status = main(["train", *FLAGS, "--json", "--log-every", "3", *more])
    out, err = capsys.readouterr()
    return status, [json.loads(line) for line in out.splitlines()], err.splitlines()


def at_call(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int, *numbers: int) -> None:
    """At the call of this number of a function signals come, before its work."""
    plain, calls = getattr(owner, name), itertools.count(1)

    def calling(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            for number in numbers:
                signal.raise_signal(number)
        return plain(*args, **kwargs)

    monkeypatch.setattr(owner, name, calling)


@pytest.fixture(scope="module")
def whole() -> str:
    """tables_sha256 of the run that nothing interrupts."""
    return str(train(TrainConfig(**TINY), SilentReport())["tables_sha256"])


@pytest.mark.parametrize(("number", "status", "name"), [(INT, 130, "Ctrl-C"), (TERM, 143, "SIGTERM")])
def test_the_step_ends_and_is_saved(capsys, tmp_path, monkeypatch, whole, number, status, name) -> None:
    handlers = signal.getsignal(INT), signal.getsignal(TERM)
    with monkeypatch.context() as patch:
        at_call(patch, Trainer, "train_on", 5, number)
        got, lines, err = run(capsys, "--save", str(tmp_path))
    assert (got, err) == (
        status,
        [f"recis train: {name} ended it; saved at step 5: --resume {tmp_path} goes on from there."],
    )
    assert [line["step"] for line in lines] == [3, 5]  # what was not logged yet is, and there is no result
    assert (signal.getsignal(INT), signal.getsignal(TERM)) == handlers
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]
    assert run(capsys, "--resume", str(tmp_path))[1][-1]["tables_sha256"] == whole


def test_without_save_it_says_so(capsys, monkeypatch) -> None:
    at_call(monkeypatch, Trainer, "train_on", 2, TERM)
    assert run(capsys)[2] == ["recis train: SIGTERM ended it; after step 2, not saved, for --save DIR was not given."]


def test_while_a_batch_is_read(capsys, tmp_path, monkeypatch, whole) -> None:
    """The batch is dropped, and read again by the run that goes on."""
    plain = recis_core.io.dataset.prefetched

    def reading(source: Any, depth: int) -> Any:
        for number, item in enumerate(plain(source, depth)):
            if number == 3:
                signal.raise_signal(TERM)
            yield item

    with monkeypatch.context() as patch:
        patch.setattr(recis_core.io.dataset, "prefetched", reading)
        assert run(capsys, "--save", str(tmp_path))[0] == 143
    assert latest_state(tmp_path).name == "step-00000003"
    assert run(capsys, "--resume", str(tmp_path))[1][-1]["tables_sha256"] == whole


def test_before_anything_is_trained(capsys, tmp_path, monkeypatch) -> None:
    at_call(monkeypatch, recis_core.cli.train, "open_source", 1, TERM)
    got, lines, err = run(capsys, "--save", str(tmp_path / "save"))
    assert (got, lines, err) == (143, [], ["recis train: SIGTERM ended it; nothing was trained."])
    assert not (tmp_path / "save").exists()


def test_in_the_test(capsys, tmp_path, monkeypatch) -> None:
    """All is trained and saved then."""
    at_call(monkeypatch, recis_core.cli.train, "final_result", 1, INT)
    got, lines, err = run(capsys, "--save", str(tmp_path))
    assert got == 130
    assert "final" not in lines[-1]
    assert "saved at step 11" in err[0]


def test_a_second_ctrl_c_ends_at_once(capsys, tmp_path, monkeypatch) -> None:
    """In a step, and in a save, of which nothing stays."""
    with monkeypatch.context() as patch:
        at_call(patch, Trainer, "train_on", 4, INT, INT)
        got, _, err = run(capsys, "--save", str(tmp_path), "--save-every", "2")
    assert (got, err) == (
        130,
        [f"recis train: Ctrl-C ended it; after step 3, saved at step 2: --resume {tmp_path} goes on from there."],
    )
    with monkeypatch.context() as patch:
        at_call(patch, Trainer, "train_on", 1, TERM)
        at_call(patch, recis_core.serialize.part_writers, "write_part", 3, INT)
        assert run(capsys, "--resume", str(tmp_path), "--save", str(tmp_path))[0] == 130
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002"]


def test_a_signal_that_a_save_has_answered_is_answered_once(capsys, tmp_path, monkeypatch) -> None:
    saves: list[int] = []
    plain = CheckpointManager.save
    monkeypatch.setattr(
        CheckpointManager, "save", lambda self, step, *more: (saves.append(step), plain(self, step, *more))[1]
    )
    at_call(monkeypatch, Trainer, "train_on", 4, TERM, TERM)
    assert run(capsys, "--save", str(tmp_path), "--save-every", "4")[0] == 143
    assert saves == [4]


# What a compiler does: the main thread comes to run no handler.
STUCK = """
import ctypes, sys
from recis_core.cli import stopping
from recis_core.framework import ending as of_programs
of_programs.PATIENCE = .2
lock, mutex = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64)
def run():
    ending = stopping.current()
    ending.unfinished.add(sys.argv[2])
    with ending.noting(sys.argv[1] == "training"):
        print("begun", flush=True)
        lock(mutex), lock(mutex)
sys.exit(stopping.ending_well("it", run))
"""


@pytest.mark.parametrize(
    ("where", "numbers", "said"),
    [("training", [INT, INT], "Ctrl-C"), ("test", [INT], "Ctrl-C"), ("test", [TERM], "SIGTERM")],
)
def test_what_ends_at_once_does_not_wait_for_a_compiler(tmp_path, where, numbers, said) -> None:
    unfinished = tmp_path / "unfinished"
    unfinished.write_text("")
    process = signals.start(where, str(unfinished), code=STUCK)
    status, _, err = signals.end(process, *((0.2, number) for number in numbers))
    assert (status, err) == (128 + numbers[0], [f"recis it: {said} ended it; nothing was done."])
    assert not unfinished.exists()


# What --save-async does while a state is written.
WRITING = """
import sys, threading, time
from recis_core.cli import stopping
def run():
    threading.Thread(target=time.sleep, args=(1000,)).start()
    with stopping.current().noting():
        print("begun", flush=True)
        time.sleep(1000)
sys.exit(stopping.ending_well("it", run, last=True))
"""


def test_a_second_ctrl_c_does_not_wait_for_a_thread_that_writes() -> None:
    status, _, err = signals.end(signals.start(code=WRITING), (0.2, INT), (0.2, INT))
    assert (status, err) == (130, ["recis it: Ctrl-C ended it; nothing was done."])


def test_a_synthetic_log_is_whole_or_not_there(capsys, tmp_path, monkeypatch) -> None:
    at_call(monkeypatch, recis_core.io.synthetic.write.pyarrow.parquet.ParquetWriter, "write_table", 2, INT)
    argv = ["data", "synth", "--preset", "tiny", "--rows", "100000", "--out", str(tmp_path / "log.parquet")]
    assert main(argv) == 130
    assert capsys.readouterr() == ("", "recis data: Ctrl-C ended it; nothing was done.\n")
    assert list(tmp_path.iterdir()) == []


def ended_on_ranks(rank: int, world: int, folder: str, which: int, step: int) -> tuple[int, str]:
    """One rank gets the signal after a step; (status, the state that is there)."""
    plain = Trainer.train_on

    def stepping(self: Trainer, *args: Any) -> Any:
        value = plain(self, *args)
        if rank == which and self.step == step:
            signal.raise_signal(TERM)
        return value

    Trainer.train_on = stepping  # type: ignore[method-assign]
    config = TrainConfig(**TINY, save=folder)
    status = ending_well("train", lambda: len(train(config, SilentReport())) * 0)
    return status, latest_state(folder).name


def test_ranks_end_after_one_step(tmp_path) -> None:
    """They hear of it with the agreement that follows the step, whichever got it; after the last step, too."""
    for which, step in [(1, 4), *([(0, 4), (1, 11)] if FULL else [])]:
        folder = str(tmp_path / f"{which}-{step}")
        ends = run_ranks(2, ended_on_ranks, folder, which, step)
        assert ends == [(143, f"step-{step:08d}")] * 2


def test_at_any_moment(tmp_path: Path, whole: str) -> None:
    """Of a process: one line, and a state from which the same tables come; 100 moments in full."""
    draw, flags, took = random.Random(17), [*FLAGS, "--json", "--save"], 6.0
    if FULL:
        begun = time.monotonic()
        assert signals.end(signals.start("train", *flags, str(tmp_path / "whole")))[0] == 0
        took = time.monotonic() - begun
    for i in range(100 if FULL else 1):
        save, number = str(tmp_path / str(i)), draw.choice([INT, TERM])
        status, out, err = signals.end(signals.start("train", *flags, save), (draw.uniform(0, took), number))
        if status == 0:  # the run was over
            assert signals.final(out)["tables_sha256"] == whole
            continue
        assert status == 128 + number
        assert len(err) == 1
        assert err[0].startswith("recis train: ")
        result = train(TrainConfig(**TINY, resume=save, resume_if_any=True), SilentReport())
        assert result["tables_sha256"] == whole


MORE = (
    [],
    ["--prefetch", "2"],
    ["--keep", "1", "--save-every", "2"],
    ["--cache-device-rows", "64", "--prefetch", "2"],
)


@contextmanager
def signal_after(seconds: float, number: int) -> Iterator[None]:
    """It comes while the block runs, or not at all; one that comes when the run is just over is nobody's."""
    over = threading.Event()
    before = [signal.signal(each, lambda *_: None) for each in (INT, TERM)]
    sender = threading.Thread(target=lambda: over.wait(seconds) or os.kill(os.getpid(), number))
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join()
        for each, handler in zip((INT, TERM), before, strict=True):
            signal.signal(each, handler)


def test_one_ctrl_c_while_a_table_changes_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    """It is noted, and what is under way goes on to its end."""

    def work() -> int:
        ending = current()
        with ending.noting():
            with uninterrupted():
                signal.raise_signal(INT)
                time.sleep(0.1)  # the thread that counts signals has seen it
            time.sleep(0.1)
        ending.done = f"hurried: {ending.hurried}, counted: {ending._interrupts}"
        return 0

    assert ending_well("work", work) == 130
    assert capsys.readouterr().err == "recis work: Ctrl-C ended it; hurried: False, counted: 1.\n"


def test_at_any_moment_of_a_run(capsys, tmp_path, whole) -> None:
    """Of runs in this process, which is sooner done: with prefetching, tiers, and states on the way."""
    draw, took = random.Random(3), 0.0
    for number, more in enumerate(MORE):  # compiles: a signal in a long compilation ends the process, which is pytest's
        begun = time.monotonic()
        assert run(capsys, "--save", str(tmp_path / f"before-{number}"), *more)[0] == 0
        took = time.monotonic() - begun
    for i in range(200 if FULL else 6):
        save, number, more = tmp_path / str(i), draw.choice([INT, TERM]), draw.choice(MORE)
        with signal_after(draw.uniform(0, took), number):
            status, _, err = run(capsys, "--save", str(save), *more)
        assert (status, len(err)) in ((128 + number, 1), (0, 0)), err
        assert all(path.name.startswith("step-") for path in save.glob("*"))
        again = run(capsys, "--resume", str(save), "--resume-if-any")
        assert again[1][-1]["tables_sha256"] == whole
