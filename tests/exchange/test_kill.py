"""A rank killed in the middle of an exchange: the others raise, torchrun restarts, and the end is the undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch.nn.functional as F

from recis_core.cli.report import SilentReport
from recis_core.cli.train import train
from recis_core.cli.train_config import TrainConfig
from tests.cli.torchrun import last_line, torchrun
from tests.exchange.killed_training import kill_at
from tests.exchange.models import Model, batch, optimizer_of, share
from tests.exchange.ranks import Failure, run_ranks, try_ranks

SETTINGS = {"preset": "tiny", "rows": 3000, "batch_size": 250, "dim": 4, "lr": 0.01}
RUN = ["train", *(f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()), "--json"]
EXCHANGES = range(10, 130)  # of a run of RUN, save and evaluation among them: about 12 a step


def stepping(rank: int, world: int, call: int, how: str) -> tuple[str, str, float]:
    """Steps until something breaks: what, and after how long. Rank 1 dies, or stops answering, at an exchange."""
    model = Model()
    optimizer = optimizer_of(model)
    if rank == 1:
        kill_at(call, 0) if how == "killed" else _stop_at(model.engine.exchange.channel, call)
    for number in range(50):
        start = time.monotonic()
        try:
            _step(model, optimizer, batch(number, share(rank, world)))
        except Exception as error:
            return type(error).__name__, str(error), time.monotonic() - start
    return "", "nothing broke", 0.0


def _step(model: Any, optimizer: Any, data: dict[str, Any]) -> None:
    summed = F.binary_cross_entropy_with_logits(model(data), data["label"], reduction="sum")
    optimizer.zero_grad()
    summed.backward()
    optimizer.step()


def _stop_at(channel: Any, call: int) -> None:
    """It lives, holds its connections, and never comes; 30 s later it is killed."""
    send, calls = channel._send, [0]

    def sending(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            subprocess.Popen(["sh", "-c", f"sleep 30; kill -9 {os.getpid()}"])
            os.kill(os.getpid(), signal.SIGSTOP)
        return send(*args)

    channel._send = sending


@pytest.mark.parametrize(
    ("world", "how", "limit"), [(3, "killed", 60), pytest.param(2, "stopped", 5, marks=pytest.mark.full)]
)
def test_survivors_raise_within_the_timeout(world: int, how: str, limit: float) -> None:
    """A dead rank's connections close at once; one that does not answer is waited for as long as asked."""
    ranks = try_ranks(world, stepping, 17, how, env={"RECIS_EXCHANGE_TIMEOUT": str(limit)})
    assert isinstance(ranks.pop(1), Failure)
    for kind, message, seconds in ranks:
        assert kind == "ExchangeFailed", message
        assert "Restart from the last checkpoint" in message
        assert seconds < limit + 5


def trained(rank: int, world: int, settings: dict[str, Any]) -> dict[str, Any]:
    """recis train as one of the ranks there are already."""
    return train(TrainConfig(**settings), SilentReport())


def undisturbed(world: int) -> str:
    return run_ranks(world, trained, SETTINGS)[0]["tables_sha256"]


def ends_with(world: int, kills: list[str], folder: Path, precision: str = "fp32") -> tuple[str, int]:
    """(digest at the end, kills that came to pass)"""
    killed = folder / "killed"
    env = {"RECIS_TEST_KILLS": " ".join(kills), "RECIS_TEST_KILLED": str(killed)}
    states = ["--save", str(folder / "states"), "--resume", str(folder / "states"), "--save-every", "3"]
    argv = [*RUN, *states, "--resume-if-any", "--precision", precision]
    done = torchrun(world, *argv, module="tests.exchange.killed_training", restarts=3, env=env)
    return last_line(done)["tables_sha256"], len(killed.read_text().split()) if killed.exists() else 0


def test_a_killed_run_ends_where_the_undisturbed_one_does(tmp_path) -> None:
    got, kills = ends_with(2, ["0:1:77:0.001"], tmp_path)
    assert kills == 1
    assert got == undisturbed(2)


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("world", [2, 3])
def test_many_kills(world: int, tmp_path) -> None:
    """Three a run, at random places of random exchanges, while saving too; 12 runs of each world."""
    want, draws, total = undisturbed(world), random.Random(world), 0
    for run in range(12):
        kills = [
            f"{attempt}:{draws.randrange(world)}:{draws.choice(EXCHANGES)}:{draws.choice([0, 0.02 * draws.random()])}"
            for attempt in range(3)
        ]
        (tmp_path / str(run)).mkdir()
        got, came = ends_with(world, kills, tmp_path / str(run))
        assert got == want, kills
        total += came
    assert total >= 12
