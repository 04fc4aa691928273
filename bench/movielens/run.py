"""python -m bench movielens: SASRec and HSTU on MovieLens-100k, beside SASRec in plain torch.

Leave-one-out: of each user the last rating is ranked among all items, those rated before included. The rating before it is
ranked, too, and chose hyperparameters; all others are trained on. All models have the same hyperparameters, batches and seeds,
and the twin SASRec's initial weights. A row is of a model and seed; --records keeps figures for the table of docs/models.md.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Any

import torch
import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.bench import rows
from recis_core.bench.movielens import cases, data
from recis_core.bench.movielens.training import MODELS, TWIN, Hyperparameters
from recis_core.bench.provenance import provenance
from recis_core.bench.quality import records

COLUMNS = ("model", "seed", "hr10", "ndcg10", "below_twin", "validation_hr10", "cpu_s", "load")

FIGURES = ("hr10", "ndcg10", "below_twin", "validation_hr10")


@dataclass(frozen=True, kw_only=True)
class MovieLensConfig:
    """SASRec and HSTU on MovieLens-100k, for research; needs pip install --no-deps recbole==1.2.1."""

    seeds: Annotated[int, Field(ge=1)] = 3
    """From seeds 0, 1, …"""
    epochs: Annotated[int, Field(ge=1)] = Hyperparameters().epochs
    backend: str = "numba"
    threads: Annotated[int, Field(ge=1)] = 1
    out: str | None = None
    """Append result rows to this JSON Lines file."""
    records: bool = False
    """Replace these models' records, which `python -m bench models --write` makes a table of."""


def run(argv: list[str]) -> int:
    config = tyro.cli(MovieLensConfig, args=argv, prog="python -m bench movielens")
    print(data.NOTE)
    data.installed_file()
    torch.set_num_threads(config.threads)
    given = replace(Hyperparameters(), epochs=config.epochs)
    for seed in range(config.seeds):
        rows.write(of_seed(given, config.backend, seed), config.out)
    if config.records:
        for case in cases.of(given, config.backend):
            records.keep([records.record(case, seed) for seed in range(config.seeds)])
    return 0


def of_seed(given: Hyperparameters, backend: str, seed: int) -> list[dict[str, Any]]:
    """A row of each model."""
    found = [
        {"bench": "movielens", "model": name, **asdict(cases.trained(name, given, backend, seed)), **asdict(given),
         "backend": backend, **provenance(seed)}
        for name in MODELS
    ]  # fmt: skip
    twin = next(row["hr10"] for row in found if row["model"] == TWIN)
    found = [{**row, "below_twin": twin - row["hr10"]} for row in found]
    rows.show([{**row, **{name: f"{row[name]:.4f}" for name in FIGURES}} for row in found], COLUMNS, f"seed {seed}")
    return found
