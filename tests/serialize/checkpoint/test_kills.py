"""SIGKILL at random instants of full, delta, asynchronous and pruning saves: a step that was acknowledged, or a later one,
comes back bit for bit; and what the dead left is no hindrance.

Each kill resumes from what the one before left. Children fork from here, where everything is imported and compiled.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from recis_core.serialize import open_checkpoint
from tests.exchange.ranks import Failure, run_ranks, try_ranks
from tests.serialize.checkpoint.killed_run import MODES, acknowledged, digest, noted, trains
from tests.serialize.checkpoint.runs import Run
from tests.serialize.states import FULL

KILLS = 100 if FULL else 2  # of each mode on one rank; with two ranks a fourth of it
FORKS = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:os.fork:RuntimeWarning")


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill loses nothing that the system has; waiting for the disk would take most of the time."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def killed_after(directory: Path, mode: str, seconds: float) -> None:
    child = os.fork()
    if not child:
        try:
            trains(directory, mode)
        finally:
            os._exit(1)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def whole(directory: Path, least: int) -> int:
    """The step that is restored, no earlier than what was acknowledged: its state is what the run had."""
    run = Run(seed=9)
    restored = run.manager(directory / "ckpt").restore()
    assert restored is not None
    assert restored.step >= least
    assert digest(run) == noted(directory)[restored.step]
    return restored.step


@FORKS
@pytest.mark.usefixtures("unsynced")
@pytest.mark.parametrize("mode", MODES)
def test_kills_of_one_rank(tmp_path: Path, mode: str) -> None:
    rng, least = random.Random(mode), 0
    trains(tmp_path, mode, steps=2)  # compiles, and is there before the first kill
    for _ in range(KILLS):
        killed_after(tmp_path, mode, rng.uniform(0.05, 0.4))
        least = whole(tmp_path, max([least, *acknowledged(tmp_path)]))
    open_checkpoint(tmp_path / "ckpt").verify()
    trains(tmp_path, mode, steps=2)
    assert whole(tmp_path, least) == least + 2
    assert not [name for name in os.listdir(tmp_path / "ckpt") if not name.startswith("step-")]


def dying(rank: int, world: int, directory: str, mode: str, seconds: float, victim: int) -> None:
    """All ranks train; one is killed, after so many seconds of its processor. The others end when they learn of it."""
    if rank == victim:
        signal.signal(signal.SIGPROF, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        signal.setitimer(signal.ITIMER_PROF, seconds)
    trains(Path(directory), mode, rank, world)


def undisturbed(rank: int, world: int, directory: str, mode: str) -> None:
    trains(Path(directory), mode, rank, world, steps=2)


def resumed(rank: int, world: int, directory: str) -> tuple[int, str]:
    run = Run(rank, world, seed=9)
    restored = run.manager(Path(directory) / "ckpt").restore()
    assert restored is not None
    return restored.step, digest(run)


@pytest.mark.full
@pytest.mark.parametrize("mode", MODES)
def test_kills_of_one_of_two_ranks(tmp_path: Path, mode: str) -> None:
    rng, least = random.Random(mode), 0
    run_ranks(2, undisturbed, str(tmp_path), mode)  # compiles, and is there before the first kill
    for _ in range(max(2, KILLS // 4)):
        seconds, victim = rng.uniform(0.3, 2.0), rng.randrange(2)
        ended = try_ranks(2, dying, str(tmp_path), mode, seconds, victim, env={"RECIS_EXCHANGE_TIMEOUT": "20"})
        assert all(isinstance(each, Failure) for each in ended)
        steps = try_ranks(2, resumed, str(tmp_path))
        step, found = _first(steps)
        assert step >= max([least, *acknowledged(tmp_path)])
        assert found == noted(tmp_path)[step]
        least = step
    assert least > 2  # kills left steps behind, too


def _first(results: list[Any]) -> tuple[int, str]:
    for each in results:
        assert not isinstance(each, Failure), each.trace
    return results[0]
