"""Metrics by name, as flags and configurations give them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Any

from recis_core.metrics.auroc import AUROC
from recis_core.metrics.calibration import Calibration, CalibrationByBucket
from recis_core.metrics.gauc import GAUC
from recis_core.metrics.loss import LogLoss, NormalizedEntropy
from recis_core.metrics.metric import Metric
from recis_core.metrics.on_torchmetrics import RMSE
from recis_core.metrics.ranking import MRR, HitRateAtK, NDCGAtK, RecallAtK

# {name: (what makes the metric, whether the name may end in @K, and whether it must)}
NAMED: dict[str, tuple[Callable[..., Any], bool, bool]] = {
    "auc": (AUROC, False, False),
    "gauc": (GAUC, False, False),
    "logloss": (LogLoss, False, False),
    "ne": (NormalizedEntropy, False, False),
    "calibration": (Calibration, False, False),
    "ece": (CalibrationByBucket, False, False),
    "rmse": (RMSE, False, False),
    "recall": (RecallAtK, True, True),
    "hit": (HitRateAtK, True, True),
    "ndcg": (NDCGAtK, True, False),
    "mrr": (MRR, True, False),
}
WAYS = ", ".join(f"{name}{'@K' if must else '[@K]' if may else ''}" for name, (_, may, must) in NAMED.items())


def metric_of(name: str) -> Metric:
    """A new metric: auc, gauc, logloss, ne, calibration, ece, rmse, recall@10, hit@10, ndcg@10, mrr or mrr@10.

    Raises:
      ValueError: there is none of this name; the nearest one is told.
    """
    read = re.fullmatch(r"(\w+)(?:@(\w*))?", name.strip())
    word, k = (read[1], read[2]) if read else (name, None)
    if word not in NAMED:
        near = difflib.get_close_matches(word, NAMED, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"a metric is one of {WAYS}; got {name!r}.{hint}")
    make, may, must = NAMED[word]
    if (k is None and must) or (k is not None and not may):
        raise ValueError(f"{name!r} must read {word}{'@K, the first K rows of a group' if must else ''}.")
    if k is not None and not re.fullmatch("[1-9][0-9]*", k):
        raise ValueError(f"the K of {name!r} must be a whole number, at least 1.")
    made: Metric = make() if k is None else make(int(k))
    return made
