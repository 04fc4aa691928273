"""python -m bench features: see the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.bench import rows
from recis_core.bench.features.case import Case, check, timed
from recis_core.bench.provenance import provenance

COLUMNS = ("case", "name", "ms", "least_ms", "cpu_ms", "Mrows/s", "GB/s", "speedup", "answer")


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Ops of features, and a click log's 39 columns through one engine, beside pandas, Arrow and plain torch."""

    rows: Annotated[int, Field(ge=1)] = 1_000_000
    """Of each op's column, and of the synthetic log."""
    click_log: str | None = None
    """A folder of ORC files with columns i1–i13 and c1–c26. Default: a synthetic log of that shape alone."""
    batch: Annotated[int, Field(ge=1)] = 8192
    """Rows of a batch of the log."""
    repeats: Annotated[int, Field(ge=1)] = 7
    """Timed turns of each."""
    only: str = ""
    """Cases whose name begins so."""
    seed: int = 0
    out: str | None = None
    """Append result rows to this JSON Lines file."""


def run(argv: list[str]) -> int:
    config = tyro.cli(FeaturesConfig, args=argv, prog="python -m bench features")
    facts = {"bench": "features", "repeats": config.repeats, **provenance(config.seed)}
    found: list[dict[str, Any]] = []
    for case in cases(config):
        if case.name.startswith(config.only):
            check(case)
            found += [{**facts, **row} for row in timed(case, config.repeats)]
    rows.write(found, config.out)
    rows.show(found, COLUMNS, f"features, {config.rows:,} rows (threads {facts['threads']}, load {facts['load']})")
    return 0


def cases(config: FeaturesConfig) -> list[Case]:
    from recis_core.bench.features import click_log, ops  # load pandas

    found = ops.cases(config.rows, config.seed)
    logs = {"a synthetic log": click_log.synthetic(config.rows, config.seed)}
    if config.click_log is not None:
        logs["the click log"] = click_log.read(Path(config.click_log), config.rows)
    return found + [click_log.case(data, where, config.batch) for where, data in logs.items()]
