"""python -m bench llm: a decoder with our tables beside the same decoder with nn.Embedding for its users, contexts and items.

Competitors train the same batches from the same values by Adam, in turns of a few steps, each in processes of its own of one
thread: on one process, and on two under FSDP2, where nn.Embedding is sharded, too, and gathered for each forward, and our tables
exchange rows. On one process nn.Embedding(sparse=True) with SparseAdam stands beside them; FSDP2 takes no sparse gradients.
First losses must be equal before anything is timed. Ids are numbers below the tables' sizes, as nn.Embedding needs them; every id
has its row from the start.

tokens_per_s: positions of all ranks, by the median turn. ours_over_it: the speed of our tables over a competitor's in the same
turn, the median over turns. peak_mib: the most that a rank's process took while it trained, interpreter and libraries included;
grown_mib: less what it took before its first step, when it had all rows. sparse_percent: of a step, inside lookups, their
backward, the exchange and updates of rows; sparse_ms: of each of these.

Sizes: T positions of a sequence.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.bench import rows
from recis_core.bench.llm.competitors import COMPETITORS, OURS
from recis_core.bench.llm.turns import Ranks
from recis_core.bench.llm.workload import Plan
from recis_core.bench.provenance import provenance

COLUMNS = ("name", "world", "tokens_per_s", "step_ms", "ours_over_it", "peak_mib", "grown_mib", "sparse_percent")
Turns = dict[tuple[str, int], list[list[dict[str, Any]]]]  # of each competitor: turns, of each its ranks' answers


@dataclass(frozen=True, kw_only=True)
class LlmConfig:
    """A decoder with tables beside the same decoder with nn.Embedding."""

    items: Annotated[int, Field(ge=100)] = 200_000
    """Ids of items; a quarter as many users."""
    dim: Annotated[int, Field(ge=1)] = 64
    width: Annotated[int, Field(ge=32, multiple_of=32)] = 128
    """Of the decoder, whose heads are of 32."""
    layers: Annotated[int, Field(ge=1)] = 4
    vocabulary: Annotated[int, Field(ge=2)] = 4096
    rows: Annotated[int, Field(ge=1)] = 8
    """Sequences of a rank's batch."""
    prompt: Annotated[int, Field(ge=1)] = 30
    """Tokens of text of each."""
    history: Annotated[int, Field(ge=2)] = 64
    """Items of each."""
    candidates: Annotated[int, Field(ge=1)] = 1024
    checkpointing: bool = False
    steps: Annotated[int, Field(ge=1)] = 2
    """Of one turn."""
    turns: Annotated[int, Field(ge=1)] = 6
    seed: int = 0
    out: str | None = None
    """Append result rows to this JSON Lines file."""

    @property
    def plan(self) -> Plan:
        return Plan(**{name: getattr(self, name) for name in Plan.__dataclass_fields__})


def run(argv: list[str]) -> int:
    config = tyro.cli(LlmConfig, args=argv, prog="python -m bench llm")
    sizes = {name: getattr(config.plan, name) for name in Plan.__dataclass_fields__ if name != "seed"}
    facts = {"bench": "llm", **sizes, "steps": config.steps, "turns": config.turns, **provenance(config.seed)}
    found = [{**facts, "threads": 1, **row} for row in cases(config)]
    rows.write(found, config.out)
    rows.show(
        found, COLUMNS, f"{config.plan.positions} positions a sequence, {config.rows} a rank (load {facts['load']})"
    )
    return 0


def cases(config: LlmConfig) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        ranks = [Ranks(name, world, config.plan, Path(folder)) for name, world in COMPETITORS]
        try:
            found = take_turns(ranks, config)
        finally:
            for each in ranks:
                each.end()
    return [measured(key, found, config) for key in found]


def take_turns(ranks: list[Ranks], config: LlmConfig) -> Turns:
    found: Turns = {(each.name, each.world): [] for each in ranks}
    check({(each.name, each.world): each.turn(1) for each in ranks})
    for each in ranks:  # the first update allocates what optimizers keep
        each.turn(1)
    for turn in range(config.turns):
        for each in ranks if turn % 2 else reversed(ranks):
            found[each.name, each.world].append(each.turn(config.steps))
    return found


def check(first: dict[tuple[str, int], list[dict[str, Any]]]) -> None:
    """Raises RuntimeError unless all begin with the same loss, rank by rank."""
    for (name, world), answers in first.items():
        for rank, (mine, wanted) in enumerate(zip(answers, first[OURS, world], strict=True)):
            a, b = mine["losses"][0], wanted["losses"][0]
            if abs(a - b) > 1e-5 * abs(b):
                raise RuntimeError(
                    f"rank {rank} of {name!r} begins with a loss of {a}, our tables with {b}: nothing was timed."
                )


def measured(key: tuple[str, int], turns: Turns, config: LlmConfig) -> dict[str, Any]:
    (name, world), mine, last = key, [seconds(turn) for turn in turns[key]], turns[key][-1]
    ours = [seconds(turn) for turn in turns[OURS, world]]
    tokens = config.plan.positions * config.rows * world * config.steps
    return {
        "name": name,
        "world": world,
        "tokens_per_s": tokens / statistics.median(mine),
        "step_ms": 1e3 * statistics.median(mine) / config.steps,
        "ours_over_it": statistics.median(a / b for a, b in zip(mine, ours, strict=True)),
        "peak_mib": max(answer["peak_mib"] for answer in last),
        "grown_mib": max(answer["peak_mib"] - answer["before_mib"] for answer in last),
        "sparse_percent": 100 * statistics.median(map(sparse_share, turns[key])) if name == OURS else None,
        "sparse_ms": {phase: 1e3 * of_phase(turns[key], phase) / config.steps for phase in last[0]["phases"]},
    }


def seconds(turn: list[dict[str, Any]]) -> float:
    """Of the slowest rank."""
    return max(answer["seconds"] for answer in turn)


def sparse_share(turn: list[dict[str, Any]]) -> float:
    """Of the ranks' time together."""
    return sum(sum(answer["phases"].values()) for answer in turn) / sum(answer["seconds"] for answer in turn)


def of_phase(turns: list[list[dict[str, Any]]], phase: str) -> float:
    return statistics.median(statistics.mean(answer["phases"][phase] for answer in turn) for turn in turns)
