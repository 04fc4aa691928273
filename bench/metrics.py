"""python -m bench metrics: rows a second and memory of each metric of a stream, beside torchmetrics' of the same rows.

Values are compared before anything is timed. Sizes: N rows, in batches of B; groups of 10 rows, which are not contiguous.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core import metrics
from recis_core.bench import rows
from recis_core.bench.provenance import provenance
from recis_core.metrics import Metric

COLUMNS = ("metric", "of", "mrows_per_s", "ms", "bytes_a_row")
GROUP = 10  # rows
Columns = tuple[np.ndarray, np.ndarray, np.ndarray]  # predictions, labels, groups


@dataclass(frozen=True, kw_only=True)
class MetricsConfig:
    """Metrics of a stream."""

    rows: Annotated[int, Field(ge=GROUP)] = 1_000_000
    batch: Annotated[int, Field(ge=1)] = 8192
    their_rows: Annotated[int, Field(ge=GROUP)] = 50_000
    """Rows that torchmetrics' metrics of groups get, which take milliseconds a group."""
    repeats: Annotated[int, Field(ge=1)] = 3
    """Timed turns of each."""
    seed: int = 0
    out: str | None = None
    """Append result rows to this JSON Lines file."""


def run(argv: list[str]) -> int:
    config = tyro.cli(MetricsConfig, args=argv, prog="python -m bench metrics")
    few = stream(config.their_rows, config.seed)
    for name, theirs in peers().items():
        check(name, made(ours()[name], few, config.batch).compute(), made(theirs, few, config.batch).compute())
    facts = {"bench": "metrics", "N": config.rows, "B": config.batch, **provenance(config.seed)}
    found = [{**facts, **row} for row in cases(config)]
    rows.write(found, config.out)
    rows.show(found, COLUMNS, f"{config.rows:,} rows in batches of {config.batch:,} (load {facts['load']})")
    return 0


def ours() -> dict[str, Callable[[], Metric]]:
    names = ("auc", "gauc", "logloss", "ne", "calibration", "ece", "rmse", "recall@10", "hit@10", "ndcg@10", "mrr@10")
    return {name: lambda name=name: metrics.metric_of(name) for name in names}  # type: ignore[misc]


def peers() -> dict[str, Callable[[], Metric]]:
    """torchmetrics' of the same name: all of their rows are kept, but for those of rmse."""
    from torchmetrics.classification import BinaryAUROC, BinaryCalibrationError
    from torchmetrics.retrieval import RetrievalHitRate, RetrievalMRR, RetrievalNormalizedDCG, RetrievalRecall

    kinds = {
        "recall@10": RetrievalRecall,
        "hit@10": RetrievalHitRate,
        "ndcg@10": RetrievalNormalizedDCG,
        "mrr@10": RetrievalMRR,
    }
    made: dict[str, Any] = {"auc": BinaryAUROC, "ece": lambda: BinaryCalibrationError(n_bins=10)}
    made |= {n: lambda kind=kind: kind(top_k=10, empty_target_action="skip") for n, kind in kinds.items()}
    return {name: lambda make=make: metrics.TorchMetric(make()) for name, make in made.items()}  # type: ignore[misc]


def check(name: str, mine: float, theirs: float) -> None:
    if abs(mine - theirs) > 1e-3:
        raise RuntimeError(f"{name} is {mine}, torchmetrics' {theirs}: nothing was timed.")


def stream(n: int, seed: int) -> Columns:
    """Distinct predictions, a tenth of the labels 1, groups in any order."""
    rng = np.random.default_rng(seed)
    predictions = rng.permutation(n) / n
    labels = (rng.random(n) < 0.05 + 0.1 * predictions).astype(np.float64)
    return predictions, labels, rng.permutation(n) // GROUP


def made(make: Callable[[], Metric], columns: Columns, batch: int) -> Metric:
    metric, (p, y, g) = make(), columns
    for begin in range(0, len(p), batch):
        part = slice(begin, begin + batch)
        metric.update(p[part], y[part], g[part] if metric.grouped else None)
    return metric


def cases(config: MetricsConfig) -> list[dict[str, Any]]:
    """Rows of metric, of (whose), millions of rows a second, ms, bytes held a row."""
    many, few = stream(config.rows, config.seed), stream(config.their_rows, config.seed)
    found = [_row(name, "ours", make, many, config) for name, make in ours().items()]
    theirs = peers()
    return found + [
        _row(n, "torchmetrics", make, few if make().grouped else many, config) for n, make in theirs.items()
    ]


def _row(name: str, of: str, make: Callable[[], Metric], columns: Columns, config: MetricsConfig) -> dict[str, Any]:
    times = []
    for _ in range(config.repeats):
        start = time.perf_counter()
        metric = made(make, columns, config.batch)
        metric.compute()
        times.append(time.perf_counter() - start)
    middle, n = statistics.median(times), len(columns[0])
    held = sum(value.nbytes for value in metric.state_dict().values() if hasattr(value, "nbytes"))
    return {"metric": name, "of": of, "mrows_per_s": n / middle / 1e6, "ms": 1e3 * middle, "bytes_a_row": held / n}
