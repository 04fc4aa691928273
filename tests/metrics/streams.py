"""Every Metric of the package, and streams to feed them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from recis_core.metrics import (
    AUROC,
    GAUC,
    MRR,
    RMSE,
    Calibration,
    CalibrationByBucket,
    HitRateAtK,
    LogLoss,
    Metric,
    NDCGAtK,
    NormalizedEntropy,
    RecallAtK,
)  # fmt: skip

MAKERS: dict[str, Callable[[], Metric]] = {
    "AUROC": AUROC,
    "AUROC of thresholds": lambda: AUROC(50),
    "GAUC": GAUC,
    "GAUC by rows": lambda: GAUC("rows"),
    "LogLoss": LogLoss,
    "NormalizedEntropy": NormalizedEntropy,
    "Calibration": Calibration,
    "CalibrationByBucket": lambda: CalibrationByBucket(7),
    "RMSE": RMSE,
    "RecallAtK": lambda: RecallAtK(2),
    "HitRateAtK": lambda: HitRateAtK(2, "zero"),
    "MRR": MRR,
    "MRR of 2": lambda: MRR(2),
    "NDCGAtK": lambda: NDCGAtK(3),
    "NDCGAtK of all": NDCGAtK,
}

Columns = Sequence[Any]  # predictions, labels, groups, weights


def clicks(rows: int, seed: int = 0, groups: int = 40) -> tuple[np.ndarray, ...]:
    """Predictions with ties, labels, groups of every size with some of one class, weights."""
    rng = np.random.default_rng(seed)
    p = rng.integers(0, 21, rows) / 20
    g = np.floor(groups * rng.random(rows) ** 2).astype(np.int64) - 5
    y = ((rng.random(rows) < 0.3 + 0.4 * p) & (g % 7 != 0)).astype(np.float64)
    return p, y, g, rng.integers(0, 4, rows) / 2


def taken(metric: Metric, columns: Columns, rows: slice | np.ndarray = slice(None)) -> dict[str, Any]:
    """Arguments of `update`: what this metric takes of the columns."""
    p, y, g, w = (column[rows] for column in columns)
    more = ({"groups": g} if metric.grouped else {}) | ({"weights": w} if metric.weighted else {})
    return {"predictions": p, "labels": y, **more}


def fed(metric: Metric, columns: Columns, batches: Iterable[slice | np.ndarray] = (slice(None),)) -> Metric:
    for rows in batches:
        metric.update(**taken(metric, columns, rows))
    return metric


def together(metrics: Sequence[Metric]) -> None:
    """Reduce them as ranks would, each with what all the others sent."""
    sent: list[list[Any]] = []
    for metric in metrics:
        sent.append([])
        before = metric.state_dict()
        metric.reduce(lambda part: sent[-1].append(part) or [part])
        metric.load_state_dict(before)
    for metric in metrics:
        metric.reduce(partial(_next, iter(zip(*sent, strict=True))))


def _next(arrived: Iterator[tuple[Any, ...]], part: Any) -> tuple[Any, ...]:
    return next(arrived)
