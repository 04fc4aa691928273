"""A run that trains and saves until it is killed; it writes each acknowledged step, and what that step's state is, first.

python -m tests.serialize.checkpoint.killed_run DIR MODE
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

from recis_core.serialize import DeltaPolicy, KeepEvery, KeepLast
from tests.serialize.checkpoint.runs import Run

MODES: dict[str, dict[str, Any]] = {
    "full": {"asynchronous": False},
    "delta": {"asynchronous": False, "delta": DeltaPolicy(3)},
    "async": {"asynchronous": True},
    "pruning": {"asynchronous": True, "delta": DeltaPolicy(3), "keep": KeepLast(1) | KeepEvery(7)},
}


def digest(run: Run) -> str:
    return hashlib.sha256(repr(run.state()).encode()).hexdigest()


def noted(directory: Path) -> dict[int, str]:
    """{step: its state's digest}, of all steps that were trained before the kill."""
    lines = (directory / "states").read_text().splitlines() if (directory / "states").exists() else []
    return {
        int(step): found for step, found in (line.split() for line in lines if line.count(" ") == 1 and len(line) > 65)
    }


def acknowledged(directory: Path) -> list[int]:
    """Steps that the manager called durable."""
    return (
        [int(line) for line in (directory / "durable").read_text().split()] if (directory / "durable").exists() else []
    )


def trains(directory: Path, mode: str, rank: int = 0, world: int = 1, steps: int = 10**9) -> None:
    """Go on from the latest checkpoint; save after each step."""
    run = Run(rank, world)
    manager = run.manager(directory / "ckpt", **MODES[mode])
    restored = manager.restore()
    first = 0 if restored is None else restored.step
    with open(directory / "states", "a") as states, open(directory / "durable", "a") as durable:
        for step in range(first + 1, first + 1 + steps):
            run.step([step])
            found = digest(run)
            if rank == 0:
                print(step, found, file=states, flush=True)
            manager.save(step)
            if rank == 0 and (latest := manager.latest()) is not None:
                print(latest, file=durable, flush=True)
    manager.close()


if __name__ == "__main__":
    os.environ.setdefault("RECIS_BACKEND", "numba")
    trains(Path(sys.argv[1]), sys.argv[2])
