"""Processes of all competitors, which wait for their turns.

Sizes: W ranks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recis_core.bench.llm.workload import Plan

QUIET = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


class Ranks:
    """The processes of one competitor."""

    def __init__(self, name: str, world: int, plan: Plan, folder: Path) -> None:
        self.name, self.world = name, world
        store = str(folder / f"{name} {world}")
        self._processes = [self._start(plan, rank, store) for rank in range(world)]

    def _start(self, plan: Plan, rank: int, store: str) -> subprocess.Popen[str]:
        told = {"plan": asdict(plan), "name": self.name, "rank": rank, "world": self.world, "store": store}
        return subprocess.Popen(
            [sys.executable, "-m", "recis_core.bench.llm.rank", json.dumps(told)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **QUIET},
        )  # fmt: skip

    def turn(self, steps: int) -> list[dict[str, Any]]:
        """What each rank found. Raises RuntimeError if one has ended."""
        for process in self._processes:
            print(steps, file=process.stdin, flush=True)
        answers = [process.stdout.readline() for process in self._processes]  # type: ignore[union-attr]
        if not all(answers):
            raise RuntimeError(f"a process of {self.name!r} at {self.world} ended before its turn; see above.")
        return [json.loads(answer) for answer in answers]

    def end(self) -> None:
        for process in self._processes:
            process.stdin.close()  # type: ignore[union-attr]
        for process in self._processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
