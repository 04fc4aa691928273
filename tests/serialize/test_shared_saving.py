"""A rank that dies, fails or is interrupted while all save a step again: the old state or the new one, on all ranks."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from recis_core.backends.errors import CorruptCheckpoint, StorageInUse
from recis_core.framework.train_loop import exchange_of
from recis_core.serialize import (
    latest_shared_state,
    latest_state,
    load_state,
    places,
    save_shared_state,
    saved_state,
    shared_state,
    state_directory,
)
from recis_core.serialize.state_directory import saving, state_name
from tests.exchange.models import Model
from tests.exchange.ranks import Failure, run_ranks, try_ranks

STEP = 5
SHORT = {"RECIS_EXCHANGE_TIMEOUT": "20"}
WHERE = {  # (module, name) of what a rank does, and whether it comes to an end
    "before its files": (shared_state, "write_parts", False),
    "after its files": (shared_state, "write_parts", True),
    "before the manifest": (places, "commit", False),
    "before the swap": (saved_state, "place", False),
    "after the swap": (state_directory, "swap_names", True),
    "after all": (places, "commit", True),
}
CASES = [(rank, where) for where in WHERE for rank in (0, 1) if rank == 0 or "its files" in where]
FEW = {(0, "before the swap"), (0, "after the swap")}
MARKED = [pytest.param(*case, marks=[] if case in FEW else pytest.mark.full) for case in CASES]


def save(exchange: Any, folder: str, mark: int) -> Path:
    part = {"mark": mark, "t": torch.full((1000,), mark)}
    return save_shared_state(folder, STEP, {"shared": part}, {"own": part}, exchange)


def again(rank: int, world: int, folder: str, who: int, where: str, how: str) -> str:
    """A first state, then a second one, in which something happens to one rank."""
    exchange = exchange_of(Model())
    save(exchange, folder, 1)
    module, name, ended = WHERE[where]
    real = getattr(module, name)

    def struck(*args: Any) -> Any:
        if ended:
            real(*args)
        if how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        setattr(module, name, real)
        raise KeyboardInterrupt if how == "is interrupted" else OSError("no space left on device")

    if rank == who:
        setattr(module, name, struck)
    try:
        save(exchange, folder, 2)
    except BaseException as error:
        return type(error).__name__
    return "saved"


def marks(folder: Path) -> set[int]:
    state = load_state(latest_state(folder))
    assert set(state) == {"shared", "own.rank-0", "own.rank-1"}
    assert all(bool((part["t"] == part["mark"]).all()) for part in state.values())
    return {part["mark"] for part in state.values()}


@pytest.mark.parametrize(
    "how", ["dies", *(pytest.param(h, marks=pytest.mark.full) for h in ("is interrupted", "fails"))]
)
@pytest.mark.parametrize(("who", "where"), MARKED)
def test_what_happens_to_one_rank_leaves_one_state(tmp_path: Path, who: int, where: str, how: str) -> None:
    ends = try_ranks(2, again, str(tmp_path), who, where, how, env=SHORT)
    assert (isinstance(ends[who], Failure) and how == "dies") or ends[who] in ("KeyboardInterrupt", "OSError")
    assert isinstance(ends[1 - who], str), ends
    assert marks(tmp_path) == {2 if where in ("after the swap", "after all") else 1}
    left = [name for name in os.listdir(tmp_path) if name.startswith(".")]
    assert not left or (how == "dies" and who == 0)
    assert set(run_ranks(2, saves_once, str(tmp_path))) == {"saved"}
    assert os.listdir(tmp_path) == [f"step-{STEP:08d}"]
    assert marks(tmp_path) == {3}


def saves_once(rank: int, world: int, folder: str) -> str:
    save(exchange_of(Model()), folder, 3)
    return "saved"


def told(rank: int, world: int, folder: str) -> list[str]:
    """What each rank raises where another run saves, and where the newest state is damaged or none is there."""
    exchange, said = exchange_of(Model()), []
    run = [lambda: latest_shared_state(folder, exchange), lambda: save(exchange, folder, 1)]
    with saving(Path(folder) / state_name(9)) if rank == 0 else open(os.devnull):
        said += [_raised(each) for each in run]
    path = save(exchange, folder, 1)
    exchange.channel.meet("save")
    if rank == 0:
        (path / "manifest.json").unlink()
    exchange.channel.meet("save")
    return [*said, _raised(run[0])]


def _raised(call: Any) -> str:
    try:
        return f"no error, {call()}"
    except Exception as error:
        return type(error).__name__


def test_ranks_are_told_together(tmp_path: Path) -> None:
    one, other = run_ranks(2, told, str(tmp_path / "new"))
    corrupt, used = CorruptCheckpoint.__name__, StorageInUse.__name__
    assert one == ["FileNotFoundError", used, corrupt]
    assert other == ["FileNotFoundError", "ExchangeMismatch", corrupt]
