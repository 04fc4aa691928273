"""One process of a competitor: trains some steps each time it is told to, so that competitors take turns.

    python -m recis_core.bench.llm.rank '{"plan": {…}, "name": "our tables", "rank": 0, "world": 1, "store": "/tmp/x"}'

Reads numbers of steps, one a line; answers each with a JSON object of a line; ends with its input.
"""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from recis_core.bench.cache.memory import number_in
from recis_core.bench.llm.competitors import Competitor, competitor
from recis_core.bench.llm.sparse_clock import SparseClock
from recis_core.bench.llm.workload import Plan, batches

BATCHES = 16  # that a turn's steps are drawn from


class Training:
    def __init__(self, made: Competitor, data: list[dict[str, Any]]) -> None:
        self._made, self._data = made, cycle(data)
        self._clock = None if made.sparse is None else SparseClock(made.model.engine, made.sparse)

    def turn(self, steps: int) -> dict[str, Any]:
        """Seconds of all and of each sparse phase, and losses."""
        before = {} if self._clock is None else dict(self._clock.seconds)
        start = time.perf_counter()
        losses = [self._step(next(self._data)) for _ in range(steps)]
        seconds = time.perf_counter() - start
        now = {} if self._clock is None else self._clock.seconds
        return {"seconds": seconds, "losses": losses, "phases": {name: now[name] - before[name] for name in now}}

    def _step(self, batch: dict[str, Any]) -> float:
        for optimizer in self._made.optimizers:
            optimizer.zero_grad()
        loss = self._made.model(batch)["item"]
        loss.backward()
        if self._clock is not None:
            self._clock.begin()
            self._made.model.engine.sync_gradients()
            self._clock.end("exchange")
        for optimizer in self._made.optimizers:
            optimizer.step()
        return loss.item()


def main(plan: dict[str, Any], name: str, rank: int, world: int, store: str) -> None:
    torch.set_num_threads(1)  # ranks share the machine's cores
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    sizes = Plan(**plan)
    made = competitor(name, sizes, world)
    training = Training(made, batches(made.model, sizes, rank, BATCHES))
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back
    before = number_in("/proc/self/status", "VmRSS")
    for line in sys.stdin:
        found = training.turn(int(line))
        memory = {"peak_mib": number_in("/proc/self/status", "VmHWM") / 1024, "before_mib": before / 1024}
        sys.stdout.write(json.dumps(found | memory) + "\n")
        sys.stdout.flush()
    os._exit(0)  # gloo's threads may abort a process that leaves in the ordinary way


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
