"""python -m bench step: lookup + pool + backward + update of one batch (--workload dynamicemb: see dynamicemb.py).

Each backend that runs here, beside torch.nn.EmbeddingBag(sparse=True) + SparseAdam or SGD on
indices mapped beforehand. Sums are checked before anything is timed; competitors take turns, so
that noise falls on all alike; times are medians.

Sizes: N ids, B bags, D dim.
"""

from __future__ import annotations

import gc
import statistics
import time
from typing import Annotated, Any, Literal

import torch
import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core import backends
from recis_core.bench import dynamicemb, rows
from recis_core.bench.cases import Bags, bags
from recis_core.bench.competitors import Competitor, embedding_bag, engine
from recis_core.bench.provenance import provenance

COLUMNS = (
    "ids",
    "dim",
    "optimizer",
    "name",
    "forward_ms",
    "backward_ms",
    "update_ms",
    "step_ms",
    "speedup",
    "first_call_s",
)


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """One sparse training step on each backend, beside torch."""

    workload: Literal["bags", "dynamicemb"] = "bags"
    """bags: one pooled feature over a vocabulary. dynamicemb: 10 tables without pooling, its published benchmark."""
    backends: tuple[str, ...] = ()
    """Which of ours; default: numba, jax and torch, and pallas where there is a GPU."""
    rows_per_table: Annotated[int, Field(ge=1)] = dynamicemb.ROWS
    """Of workload dynamicemb: fewer where memory is short."""
    indices: Annotated[int, Field(ge=dynamicemb.TABLES)] = dynamicemb.INDICES
    """Of workload dynamicemb, over all tables."""
    ids: tuple[Literal["zipf", "uniform"], ...] = ("zipf", "uniform")
    dims: tuple[int, ...] = (8, 16, 64, 128)
    optimizers: tuple[Literal["adam", "sgd"], ...] = ("adam", "sgd")
    n: Annotated[int, Field(ge=1)] = 65_536
    """Ids of a batch."""
    bags: Annotated[int, Field(ge=1)] = 8_192
    vocabulary: Annotated[int, Field(ge=1)] = 1_000_000
    repeats: Annotated[int, Field(ge=1)] = 15
    """Timed turns of each competitor."""
    seed: int = 0
    out: str | None = None
    """Append result rows to this JSON Lines file."""


def run(argv: list[str]) -> int:
    config = tyro.cli(StepConfig, args=argv, prog="python -m bench step")
    names = config.backends or tuple(name for name in ("numba", "jax", "torch", "pallas") if name in runnable())
    if config.workload == "dynamicemb":
        sizes = {"rows_per_table": config.rows_per_table, "indices": config.indices}
        how = {"repeats": config.repeats, "seed": config.seed, "out": config.out}
        return dynamicemb.run(names, tuple(reversed(config.optimizers)), **sizes, **how)
    found = []
    for distribution in config.ids:
        batch = bags(distribution, n=config.n, b=config.bags, vocabulary=config.vocabulary, seed=config.seed)
        for dim in config.dims:
            for optimizer in config.optimizers:
                found += case(config, names, batch, distribution, dim, optimizer)
    rows.show(
        found,
        COLUMNS,
        f"one step, {config.n} ids in {config.bags} bags over {config.vocabulary} rows; speedup over torch",
    )
    return 0


def runnable() -> list[str]:
    """Backends worth timing here: interpreted Pallas kernels are not."""
    interpreted = backends.describe()["pallas"] != "runs here" or not torch.cuda.is_available()
    return [name for name in backends.available() if name != "pallas" or not interpreted]


def case(
    config: StepConfig, names: tuple[str, ...], batch: Bags, distribution: str, dim: int, optimizer: str
) -> list[dict[str, Any]]:
    """All competitors on one batch."""
    grad = torch.randn(config.bags, dim, generator=torch.Generator().manual_seed(config.seed))
    competitors = [embedding_bag(batch, dim, optimizer, grad)]
    for name in names:
        competitor = engine(batch, dim, optimizer, grad, name)
        check(competitor, batch)
        competitors.append(competitor)
    take_turns(competitors, config.repeats)
    facts = {
        "bench": "step",
        "ids": distribution,
        "dim": dim,
        "optimizer": optimizer,
        "n": config.n,
        "bags": config.bags,
    }
    facts |= {"vocabulary": config.vocabulary, "repeats": config.repeats, **provenance(config.seed)}
    found = [{**facts, **measured(c, competitors[0])} for c in competitors]
    rows.write(found, config.out)
    return found


def check(competitor: Competitor, batch: Bags) -> None:
    """Pooled sums equal the table's rows added one by one."""
    got = competitor.output().detach()[:16].cpu()
    end = int(batch.offsets[16])
    each = competitor.rows(batch.ids[:end])
    want = torch.stack(
        [each[b:e].double().sum(0) for b, e in zip(batch.offsets[:16], batch.offsets[1:17], strict=True)]
    )
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5 * float(want.abs().max()))


def take_turns(competitors: list[Competitor], repeats: int) -> None:
    for competitor in competitors:
        start = time.perf_counter()
        competitor.run()
        competitor.first_call_s = time.perf_counter() - start
    gc.collect()
    gc.disable()
    for turn in range(repeats + 3):
        for competitor in competitors:
            times = competitor.run()
            if turn >= 3:  # warm-up
                competitor.times.append(times)
    gc.enable()


def measured(competitor: Competitor, peer: Competitor) -> dict[str, Any]:
    forward, backward, update, whole = (1e3 * statistics.median(t) for t in zip(*competitor.times, strict=True))
    ratios = [p[3] / c[3] for p, c in zip(peer.times, competitor.times, strict=True)]
    return {
        "name": competitor.name,
        "forward_ms": forward,
        "backward_ms": backward,
        "update_ms": update,
        "step_ms": whole,
        "step_min_ms": 1e3 * min(t[3] for t in competitor.times),
        "speedup": statistics.median(ratios),
        "first_call_s": competitor.first_call_s,
    }
