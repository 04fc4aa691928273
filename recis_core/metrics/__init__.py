"""Metrics of streams of predictions. All take (predictions, labels[, groups]), in this order, as torchmetrics does."""

from recis_core.metrics.auroc import AUROC
from recis_core.metrics.calibration import Bucket, Calibration, CalibrationByBucket
from recis_core.metrics.exact import auc, logloss
from recis_core.metrics.gauc import GAUC
from recis_core.metrics.loss import LogLoss, NormalizedEntropy
from recis_core.metrics.metric import Gather, Measure, Metric
from recis_core.metrics.names import metric_of
from recis_core.metrics.on_torchmetrics import RMSE, TorchMetric
from recis_core.metrics.ranking import MRR, HitRateAtK, NDCGAtK, RecallAtK

__all__ = [
    "AUROC",
    "GAUC",
    "MRR",
    "RMSE",
    "Bucket",
    "Calibration",
    "CalibrationByBucket",
    "Gather",
    "HitRateAtK",
    "LogLoss",
    "Measure",
    "Metric",
    "NDCGAtK",
    "NormalizedEntropy",
    "RecallAtK",
    "TorchMetric",
    "auc",
    "logloss",
    "metric_of",
]
