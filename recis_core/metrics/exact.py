"""AUC and log loss of predictions in memory.

Sizes: N predictions.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from recis_core.metrics.checked import checked, checked_weights

LOG = logging.getLogger(__name__)


def auc(predictions: Any, labels: Any, weights: Any = None) -> float:
    """The chance that a positive is predicted above a negative; ties count half.

    Args:
      predictions: [N], any real numbers: probabilities, logits or ranks. labels: [N], each 0 or 1. Tensors or arrays.
      weights: [N] of 0 or more; a pair counts as the product of its two. None: 1 each.

    Returns:
      The area under the ROC curve; NaN, with a logged warning, if all labels are of one class.

    Raises:
      ValueError: a label is neither 0 nor 1, a prediction is NaN, a weight is negative, or the shapes differ.
    """
    p, y = checked(predictions, labels, probabilities=False)
    w = checked_weights(weights, len(p))
    positive, negative = w * y, w * (1 - y)
    word = one_class(float(positive.sum()), float(negative.sum()))
    if word is not None:
        LOG.warning("AUC is nan: %s.", word)
        return float("nan")
    return weighted_auc(p, positive, negative)


def weighted_auc(values: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> float:
    """AUC of values, of which values[i] counts as positive[i] positives and negative[i] negatives; both sums are above 0."""
    _, place = np.unique(values, return_inverse=True)
    positive, negative = np.bincount(place, positive), np.bincount(place, negative)
    below = np.cumsum(negative) - negative
    # Shares before products: products of counts of 10¹² would lose digits.
    return float((positive / positive.sum() * ((below + negative / 2) / negative.sum())).sum())


def one_class(positives: float, negatives: float) -> str | None:
    """Why AUC is undefined; None if it is defined."""
    if positives > 0 and negatives > 0:
        return None
    there = f"all {positives + negatives:,.0f} labels are {int(positives > 0)}"
    return f"it needs labels of both classes; {there if positives + negatives else 'there are none'}"


def logloss(predictions: Any, labels: Any, *, floor: float = 1e-7) -> float:
    """Mean −log likelihood of labels under predictions, clipped to [floor, 1 − floor]; NaN without predictions.

    Args:
      predictions: [N] probabilities. labels: [N], each 0 or 1. Tensors or arrays.

    Raises:
      ValueError: a label is neither 0 nor 1, a prediction is NaN or outside [0, 1], or the shapes differ.
    """
    p, y = checked(predictions, labels, probabilities=True)
    return float(log_losses(p, y, floor).mean()) if len(p) else float("nan")


def log_losses(p: np.ndarray, y: np.ndarray, floor: float) -> np.ndarray:
    """−log likelihood of each label, [N], predictions clipped to [floor, 1 − floor]."""
    p = np.clip(p, floor, 1 - floor)
    losses: np.ndarray = -(y * np.log(p) + (1 - y) * np.log1p(-p))
    return losses
