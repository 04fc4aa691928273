"""python -m bench models: what each model reaches, and its peer, from several seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.bench import rows
from recis_core.bench.quality import records, table
from recis_core.bench.quality.cases import CASES

COLUMNS = ("model", "seed", "figures", "best", "peer_figures", "seconds", "peer_seconds", "load")


@dataclass(frozen=True, kw_only=True)
class ModelsConfig:
    """Train each model and its peer, and keep the records; they replace the former ones of these models."""

    only: tuple[str, ...] = ()
    """Models to train, in any case of letters; all if left out."""
    seeds: Annotated[int, Field(ge=1)] = 3
    """From seeds 0, 1, …"""
    out: Path = records.FILE
    """JSON Lines of records."""
    write: bool = False
    """Train nothing: renew the table in docs/models.md from the records."""


def run(argv: list[str]) -> int:
    config = tyro.cli(ModelsConfig, args=argv, prog="python -m bench models")
    if config.write:
        table.write(records.read(config.out))
        return 0
    for case in chosen(config.only):
        found = []
        for seed in range(config.seeds):
            found.append(records.record(case, seed))
            rows.show(found[-1:], COLUMNS, case.name)
        records.keep(found, config.out)
    return 0


def chosen(names: tuple[str, ...]) -> list[records.Case]:
    """Raises SystemExit, naming the models, if there is none of a name."""
    by_name = {case.name.lower(): case for case in CASES}
    unknown = [name for name in names if name.lower() not in by_name]
    if unknown:
        raise SystemExit(f"no model {unknown[0]!r}; there are {', '.join(case.name for case in CASES)}.")
    return [by_name[name.lower()] for name in names] or list(CASES)
