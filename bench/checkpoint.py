"""python -m bench checkpoint: saving and loading a table with Adam's slots, beside torch.distributed.checkpoint and the disk.

Every way takes its turn in each round: the bytes copied in memory; this disk written and read one byte after the other, with
hashes and without; our saves, ours in the background, torch's dcp.save and dcp.load of the same arrays. What was loaded is
compared before anything is timed; files that are read were dropped from the page cache, and free memory was made ready, see
checkpoint_turns.touch_free_memory; loads are timed without that, too. Then a delta after training on few rows, and a table in
tiers of many times the memory it may take, in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.bench import rows as result_rows
from recis_core.bench.checkpoint_turns import LOAD, LOST, SAVE, STALL, delta, turns
from recis_core.bench.provenance import provenance
from recis_core.cli.flags import plain_errors

WAYS = ("way", "mb", "ms", "ms_min", "mb_per_s", "of_disk", "of_dcp")
FACTS = ("fact", "value", "goal", "met", "detail")


@plain_errors
@dataclass(frozen=True, kw_only=True)
class CheckpointBench:
    """Save, load, stall, deltas, and memory of checkpoints."""

    rows: Annotated[int, Field(ge=1000)] = 400_000
    """Of the table in memory; 768 bytes each with Adam's slots, at dim 64."""
    dim: Annotated[int, Field(ge=1)] = 64
    repeats: Annotated[int, Field(ge=1)] = 7
    """Rounds that are timed, after one that is not."""
    touched: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Share of the rows that is trained before a delta."""
    tiered_mb: Annotated[int, Field(ge=0)] = 4096
    """Of the table in tiers, on disk; 0 leaves it out."""
    directory: str | None = None
    """On the disk to measure; the default is that of temporary files."""
    seed: int = 0
    out: str | None = None
    """Append result rows to this JSON Lines file."""


def run(argv: list[str]) -> int:
    config = tyro.cli(CheckpointBench, args=argv, prog="python -m bench checkpoint")
    facts = {"bench": "checkpoint", **provenance(config.seed)}
    with tempfile.TemporaryDirectory(dir=config.directory) as folder:
        ways = turns(Path(folder), config.rows, config.dim, config.repeats, config.seed)
        found = [*stall(ways), *speeds(ways), delta(Path(folder), config.rows, config.dim, config.touched, config.seed)]
    if config.tiered_mb:
        found += memory(config)
    rows = [facts | row for row in (*ways, *found)]
    result_rows.write(rows, config.out)
    result_rows.show(ways, WAYS, f"{config.rows:,} rows of dim {config.dim} with m and v (load {facts['load']})")
    result_rows.show(found, FACTS, "goals")
    return 0


def stall(ways: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians over rounds: each round's stall against that round's synchronous save.

    `save` leaves rows to a thread, and a step notes those it changes until they are copied; so the step after counts, too.
    """
    share = {way["way"]: way["of_save"] for way in ways}
    return [
        fact(f"{name}, of a synchronous save", share[way], 0.05, share[way] <= 0.05, way)
        for name, way in (
            ("stall of a save in the background", STALL),
            ("that, and what the next step takes longer", LOST),
        )
    ]


def speeds(ways: list[dict[str, Any]]) -> list[dict[str, Any]]:
    by_way = {way["way"]: way["of_disk"] for way in ways}
    return [
        fact(f"{verb}: share of the disk's speed", by_way[way], 0.7, by_way[way] >= 0.7, way)
        for verb, way in (("save", SAVE), ("load", LOAD))
    ]


def fact(name: str, value: float, goal: float, met: bool, detail: str) -> dict[str, Any]:
    return {"fact": name, "value": value, "goal": goal, "met": met, "detail": detail}


def memory(config: CheckpointBench) -> list[dict[str, Any]]:
    """Each in a process of its own, for the system's peak of memory is a process's."""
    with tempfile.TemporaryDirectory(dir=config.directory) as folder:
        found = [_of_process(verb, config.tiered_mb, folder) for verb in ("save", "load")]
    return [
        fact(
            f"{row['verb']} a table of {row['table_mb']:,} MB in tiers: peak memory, GiB", row["rss_peak"] / 2**30, 1.0,
            row["rss_peak"] <= 2**30,
            f"{row['mb_per_s']:.0f} MB/s; {row['anon_peak'] / 2**20:.0f} MiB without pages of files, "
            f"{row['anon_grown'] / 2**20:.0f} more than before",
        )
        for row in found
    ]  # fmt: skip


def _of_process(verb: str, megabytes: int, folder: str) -> dict[str, Any]:
    given = json.dumps({"verb": verb, "megabytes": megabytes, "directory": folder})
    command = [sys.executable, "-m", "recis_core.bench.checkpoint_memory", given]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    row: dict[str, Any] = json.loads(done.stdout)
    return row
