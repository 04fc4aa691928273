"""A rank that leaves while others go on, and one that never comes: told in words, of whom and where."""

from __future__ import annotations

import multiprocessing.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from recis_core.backends.errors import ExchangeFailed, RecisError
from recis_core.channel import rank_group
from recis_core.channel.channel import open_channel
from recis_core.channel.notes import Notes
from recis_core.exchange import in_step
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseSGD
from tests.exchange.ranks import run_ranks, try_ranks

WORDS = {
    "ended": "rank 1 left: its process ended or destroyed its process group, after call 17, step",
    "failed": "rank 1 left: its process ended by ValueError('bad batch'), after call 17, step",
    "destroyed": "rank 1 left: its process ended or destroyed its process group, after call 17, step",
    "killed": "rank 1 left without a word",
    "stays": "did not come within 6 s (RECIS_EXCHANGE_TIMEOUT)",
}


class Run:
    """An engine of one feature, and its steps."""

    def __init__(self) -> None:
        self.engine = EmbeddingEngine({"f": EmbeddingOption(4)})
        self.optimizer = SparseSGD(self.engine.sparse_parameters(), lr=0.1)

    def step(self) -> None:
        self.engine({"f": torch.arange(20)})["f"].sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def leaves(rank: int, world: int, folder: str, how: str) -> tuple[str, str, float]:
    """What rank 0 is told, by what, and after how long."""
    run, told = Run(), Path(folder) / "told"
    for _ in range(3):
        run.step()
    if rank == 1:
        return _leave(run, how, told)
    start = time.monotonic()
    try:
        with pytest.raises(ExchangeFailed) as raised:
            run.step()
    finally:
        told.touch()
    seconds, cause = time.monotonic() - start, raised.value.__cause__
    assert isinstance(cause, RuntimeError)
    assert str(cause) not in str(raised.value)
    with pytest.raises(ExchangeFailed, match="broke off earlier") as again:  # without asking the others
        run.step()
    return str(raised.value), str(again.value), seconds


def _leave(run: Run, how: str, told: Path) -> tuple[str, str, float]:
    """A rank whose process goes on waits until rank 0 was told."""
    if how == "failed":
        sys.last_value = ValueError("bad batch")  # as every interpreter sets it
    if how in ("ended", "failed"):
        multiprocessing.util._exit_function()  # what a child of multiprocessing ends by, and others at exit
        os._exit(0)
    if how == "destroyed":
        dist.destroy_process_group()
        with pytest.raises(ExchangeFailed, match="this rank has left the exchange"):
            run.step()
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    while not told.exists():
        time.sleep(0.1)
    return "", "", 0.0


@pytest.mark.parametrize("how", ["ended", "failed", "destroyed", "killed", "stays"])
def test_the_others_are_told_who_left(how: str, tmp_path: Path) -> None:
    limit = 6 if how == "stays" else 200
    said, again, seconds = try_ranks(2, leaves, str(tmp_path), how, env={"RECIS_EXCHANGE_TIMEOUT": str(limit)})[0]
    assert WORDS[how] in said, said
    assert "rank 0's exchange broke off in call 18, a training forward" in said
    assert "rank 1" in said
    assert "in_step" in said
    assert "Restart from the last checkpoint" in said
    assert WORDS[how].split(",")[0] in again
    assert how == "stays" or seconds < 150  # at once, and not when the wait is over


ENDS_BY_AN_ERROR = """
from recis_core.channel.notes import Notes

class Store:
    def set(self, key, value):
        print(key, value)

notes = Notes(Store(), "0", rank=1)
notes.join(notes)
raise ValueError("bad batch")
"""


def test_a_program_that_ends_by_an_error_notes_which() -> None:
    """On every Python: only from 3.12 on has it the name sys.last_exc."""
    done = subprocess.run([sys.executable, "-c", ENDS_BY_AN_ERROR], capture_output=True, text=True, timeout=100)
    assert done.stdout.splitlines() == [
        "recis/0/1 joined 0 making the group",
        "recis/0/1 left 0 its process ended by ValueError('bad batch'), after making the group",
    ]


def waits(rank: int, world: int, folder: str, raises: bool) -> Any:
    """Rank 1 comes once rank 0 has handled a signal, which it gets while it waits."""
    run, handled = Run(), Path(folder) / "handled"
    run.step()
    if rank == 1:
        while not handled.exists():
            time.sleep(0.1)
        try:
            run.step()
        except ExchangeFailed as error:
            return str(error)
        return "went on"
    rank_group.PATIENCE = 0.5
    signal.signal(signal.SIGALRM, signal.default_int_handler if raises else lambda *_: handled.touch())
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        run.step()
    except KeyboardInterrupt:
        handled.touch()
        return "interrupted"
    return "went on"


def test_an_interrupt_ends_a_long_wait(tmp_path) -> None:
    mine, other = run_ranks(2, waits, str(tmp_path), True, env={"RECIS_EXCHANGE_TIMEOUT": "100"})
    assert mine == "interrupted"
    assert "rank 0 left: it broke off: it was interrupted by KeyboardInterrupt" in other


def test_a_signal_whose_handler_returns_does_not(tmp_path) -> None:
    assert run_ranks(2, waits, str(tmp_path), False) == ["went on", "went on"]


def three_leave(rank: int, world: int) -> str:
    run = Run()
    run.step()
    if rank == 2:
        multiprocessing.util._exit_function()
        os._exit(0)
    try:
        run.step()
    except ExchangeFailed as error:
        return str(error)
    return ""


def test_of_three_ranks_the_one_that_left_is_named() -> None:
    for rank, said in enumerate(try_ranks(3, three_leave)[:2]):
        assert "rank 2 left: its process ended" in said
        assert f"rank {1 - rank} waits in call" in said or f"rank {1 - rank} left" not in said


def unequal(rank: int, world: int, in_step_: bool) -> Any:
    run, batches = Run(), range(4 - 2 * rank)
    try:
        for _ in in_step([torch.zeros(2)] * len(batches)) if in_step_ else batches:
            run.step()
    except ExchangeFailed as error:
        return str(error)
    multiprocessing.util._exit_function()
    return "ended"


def test_unequal_data() -> None:
    """As the error advises: by in_step it ends well."""
    assert "in_step" in run_ranks(2, unequal, False)[0]
    assert run_ranks(2, unequal, True) == ["ended", "ended"]


class Group:
    """Something that a note of leaving can wait for."""


def test_notes_of_an_earlier_group_of_that_name_are_not_believed() -> None:
    store = dist.HashStore()
    earlier, reader = Notes(store, "3", rank=1), Notes(store, "3", rank=0)
    earlier.leave("its data ended")
    assert reader.of([1])[1].text == "its data ended, after making the group"
    kept = Group()
    Notes(store, "3", rank=1).join(kept)
    assert reader.of([1]) == {}


def frees_its_port(rank: int, world: int) -> str:
    """A process group on a port, twice: no store of the first is kept."""
    run, address = Run(), f"tcp://127.0.0.1:{_free_port()}"
    for _ in range(2):
        dist.destroy_process_group()
        dist.init_process_group("gloo", init_method=address, rank=0, world_size=1)
        open_channel()
    return type(run).__name__


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_destroyed_group_gives_back_its_port() -> None:
    assert run_ranks(1, frees_its_port) == ["Run"]


def in_a_child(rank: int, world: int) -> list[str]:
    """Rank 1 forks, uses what it inherited there, and both go on."""
    run, said = Run(), ["parent"]
    run.step()
    if rank == 1 and os.fork() == 0:
        uses = (run.step, run.engine.state_dict, lambda: next(in_step([1])), run.optimizer.step)
        for use in uses:
            try:
                use()
                os._exit(1)
            except RecisError as error:
                if "was made in process" not in str(error):
                    os._exit(2)
        multiprocessing.util._exit_function()
        os._exit(0)
    if rank == 1:
        said.append(str(os.waitpid(-1, 0)[1]))
    for _ in range(3):
        run.step()
    return said


def test_a_forked_child_of_a_rank_is_told_and_leaves_the_others_alone() -> None:
    assert run_ranks(2, in_a_child) == [["parent"], ["parent", "0"]]
