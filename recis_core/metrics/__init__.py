"""Ranking metrics. All take (predictions, labels), in this order, as torchmetrics does."""

from recis_core.metrics.auroc import AUROC
from recis_core.metrics.exact import auc, logloss

__all__ = ["AUROC", "auc", "logloss"]
