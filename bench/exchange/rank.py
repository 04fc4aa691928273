"""One rank of the bench: torchrun --nproc-per-node 2 -m recis_core.bench.exchange.rank PLAN.json OUT.jsonl"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from recis_core.bench.exchange import quality
from recis_core.bench.exchange.timing import times
from recis_core.bench.exchange.traffic import count
from recis_core.bench.exchange.workloads import Workload


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the ranks measure. rows: of a rank's batch."""

    codecs: list[str]
    workloads: list[str]
    seeds: list[int]
    rows: int
    dim: int
    steps: int
    repeats: int
    train_rows: int
    test_rows: int
    train_batch: int

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))


def measured(plan: Plan, rank: int, world: int) -> Iterator[dict[str, Any]]:
    """Facts as they are found, equal on all ranks. Collective."""
    for name in plan.workloads:
        workload = Workload(name, plan.rows, world, plan.steps)
        for seed in plan.seeds:
            for codec in plan.codecs:
                found = count(workload, rank, codec, plan.dim, seed)
                yield {"part": "traffic", "workload": name, "codec": codec, "seed": seed, **found}
        if plan.repeats:
            for codec, found in times(workload, rank, plan.codecs, plan.dim, plan.repeats).items():
                yield {"part": "times", "workload": name, "codec": codec, **found}
    if plan.train_rows:
        yield from _qualities(plan, rank, world)


def _qualities(plan: Plan, rank: int, world: int) -> Iterator[dict[str, Any]]:
    for seed in plan.seeds:
        log = quality.read(rank, world, seed, plan.train_rows, plan.test_rows, plan.train_batch)
        for codec in [*plan.codecs, quality.CONTROL]:
            yield {"part": "quality", **quality.train(log, codec)}


def main(plan_file: str, out: str) -> None:
    torch.set_num_threads(1)  # ranks share the machine's cores
    dist.init_process_group("gloo")
    plan = Plan(**json.loads(Path(plan_file).read_text()))
    rank, start = dist.get_rank(), time.perf_counter()
    with Path(out if rank == 0 else os.devnull).open("w") as file:
        for fact in measured(plan, rank, dist.get_world_size()):
            file.write(json.dumps(fact) + "\n")
            file.flush()
            if rank == 0:
                told = " ".join(str(fact[key]) for key in ("part", "workload", "seed", "codec") if key in fact)
                print(f"{time.perf_counter() - start:7.1f} s  {told}", file=sys.stderr, flush=True)
    dist.barrier()


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stderr.flush()
    os._exit(0)  # gloo's threads may abort a process that leaves in the ordinary way
