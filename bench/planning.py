"""python -m bench planning: what a forward of many features costs before its first stage, and in all.

Each feature is one id a row. The peer is what its user writes in plain torch: one EmbeddingBag a feature, on indices
mapped beforehand, which has no planning, and no sharing of work between features either.

Sizes: F features, B rows of a batch, D dim.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any

import torch
import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from recis_core.bench import rows
from recis_core.bench.provenance import provenance
from recis_core.nn import EmbeddingEngine, EmbeddingOption

COLUMNS = ("name", "ms", "least", "peer", "speedup")


@dataclass(frozen=True, kw_only=True)
class PlanningConfig:
    """Reading, planning and forward of many features, beside one EmbeddingBag a feature."""

    features: Annotated[int, Field(ge=1)] = 512
    batch: Annotated[int, Field(ge=1)] = 512
    dim: Annotated[int, Field(ge=1)] = 16
    vocabulary: Annotated[int, Field(ge=1)] = 10_000
    backend: str = "numba"
    repeats: Annotated[int, Field(ge=1)] = 40
    """Timed turns of each."""
    seed: int = 0
    out: str | None = None
    """Append result rows to this JSON Lines file."""


def run(argv: list[str]) -> int:
    config = tyro.cli(PlanningConfig, args=argv, prog="python -m bench planning")
    sizes = {name: getattr(config, name) for name in ("features", "batch", "dim", "vocabulary", "backend", "repeats")}
    facts = {"bench": "planning", **sizes, **provenance(config.seed)}
    found = [{**facts, **row} for row in cases(config)]
    rows.write(found, config.out)
    rows.show(found, COLUMNS, f"a forward of {config.features} features, ms (load {facts['load']})")
    return 0


def cases(config: PlanningConfig) -> list[dict[str, Any]]:
    """Rows of name, ms (median over turns) and least (the quietest turn); turns of all rows alternate."""
    generator = torch.Generator().manual_seed(config.seed)
    batch = {
        f"f{k}": torch.randint(config.vocabulary, (config.batch,), generator=generator) for k in range(config.features)
    }
    calls = {**_engine_calls(config, batch), "forward, EmbeddingBag a feature": _bags(config, batch)}
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(config.repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    peer = "forward, EmbeddingBag a feature"
    return [_row(name, times, peer if name == "forward" else None) for name in calls]


def _engine_calls(config: PlanningConfig, batch: dict[str, Tensor]) -> dict[str, Callable[[], object]]:
    engine = EmbeddingEngine({name: EmbeddingOption(config.dim, backend=config.backend) for name in batch})
    inputs = engine._read(batch)
    return {
        "reading inputs": lambda: engine._read(batch),
        "planning": lambda: [planned.job(inputs) for planned in engine._plans.of(inputs)],
        "forward": lambda: engine(batch),
    }


def _bags(config: PlanningConfig, batch: dict[str, Tensor]) -> Callable[[], object]:
    bags = {name: nn.EmbeddingBag(config.vocabulary, config.dim, mode="sum", sparse=True) for name in batch}
    return lambda: {name: bags[name](ids.unsqueeze(1)) for name, ids in batch.items()}


def _row(name: str, times: dict[str, list[float]], peer: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "ms": statistics.median(times[name]), "least": min(times[name]), "peer": peer}
    if peer is not None:
        row["speedup"] = statistics.median(p / mine for p, mine in zip(times[peer], times[name], strict=True))
    return row
