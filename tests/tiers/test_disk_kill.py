"""A writer killed at any moment: what it leaves is what some flush saw, the last that returned or the one in flight."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.tiers.disk_stores import contents, open_store
from tests.tiers.disk_writer import POINTS, State, Task, apply, flushes, numbers_of

ROOT = Path(__file__).parents[2]


class Writers:
    """tests/tiers/disk_writer.py, and what its writers must have left."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path, self.random = path, random.Random(seed)
        self.step, self.state = -1, {}  # of the flush that the directory holds
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.tiers.disk_writer"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def round(self, point: str | None) -> None:
        task = Task(str(self.path), self.step + 1, point, self.random.randrange(12))
        acknowledged = self._run(task, 2.0 if point else self.random.uniform(0.0, 0.25))
        self._check(acknowledged)

    def _run(self, task: Task, seconds: float) -> int:
        """The last step that was flushed for sure."""
        self.process.stdin.write(json.dumps(asdict(task)) + "\n")
        self.process.stdin.flush()
        acknowledged = self.step
        for line in self.process.stdout:
            word, *rest = line.split(maxsplit=1)
            if word == "pid":
                killer = threading.Timer(seconds, _kill, (int(rest[0]),))
                killer.start()
            elif word == "flushed":
                acknowledged = int(rest[0])
            elif word == "ended":
                break
            else:
                raise AssertionError(line)
        killer.cancel()
        killer.join()
        return acknowledged

    def _check(self, acknowledged: int) -> None:
        store = open_store("disk", self.path)
        found = contents(store, 100)
        assert len(store) == len(found)
        store.verify()
        numbers = store.numbers
        store.close()
        states = self._states(acknowledged)
        matching = [step for step, state in states.items() if state == found]
        assert matching, f"after flush {acknowledged}: {len(found)} rows of no flush of {list(states)}"
        self.step, self.state = matching[-1], found
        assert numbers == numbers_of(self.step)

    def _states(self, acknowledged: int) -> dict[int, State]:
        """Of the last flush that returned, and the next one."""
        state, step, found = dict(self.state), self.step, {}
        if step == acknowledged:
            found[step] = dict(state)
        while True:
            step += 1
            apply(state, step)
            if flushes(step) and step >= acknowledged:
                found[step] = dict(state)
                if step > acknowledged:
                    return found

    def close(self) -> None:
        self.process.communicate()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def writers(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Writers]:
    found = Writers(tmp_path / "rows", seed=len(request.node.name))
    yield found
    found.close()


@pytest.mark.parametrize("rounds", [6, pytest.param(130, marks=pytest.mark.full)])
def test_killed_at_random_moments(writers: Writers, rounds: int) -> None:
    for _ in range(rounds):
        writers.round(None)
    assert writers.step > rounds


@pytest.mark.parametrize("rounds", [1, pytest.param(12, marks=pytest.mark.full)])
def test_killed_at_each_point(writers: Writers, rounds: int) -> None:
    for _ in range(rounds):
        for point in POINTS:
            writers.round(point)
    assert writers.step > rounds * len(POINTS)
