"""Metrics against true probabilities, without the noise of drawn labels.

Sizes: n samples.
"""

from __future__ import annotations

import numpy as np


def expected_auc(scores: np.ndarray, p: np.ndarray) -> float:
    """The AUC of scores [n] when label i is 1 with probability p[i]: expected right pairs by expected pairs; ties ½."""
    scores, p = np.asarray(scores, np.float64).ravel(), np.asarray(p, np.float64).ravel()
    if scores.shape != p.shape:
        raise ValueError(f"scores and p must be of one length; got {len(scores)} and {len(p)}.")
    _, group = np.unique(scores, return_inverse=True)
    positive, negative = np.bincount(group, p), np.bincount(group, 1 - p)
    below = np.cumsum(negative) - negative
    own = (p * (1 - p)).sum()  # pairs of a sample with itself do not count
    pairs = p.sum() * (1 - p).sum() - own
    if not pairs > 0:
        raise ValueError("an AUC needs at least two samples whose labels may differ.")
    return float(((positive * (below + negative / 2)).sum() - own / 2) / pairs)


def expected_logloss(predictions: np.ndarray, p: np.ndarray) -> float:
    """The mean log loss of predicted probabilities [n] when label i is 1 with probability p[i], in nats."""
    q = np.asarray(predictions, np.float64).ravel()
    p = np.asarray(p, np.float64).ravel()
    if q.shape != p.shape:
        raise ValueError(f"predictions and p must be of one length; got {len(q)} and {len(p)}.")
    with np.errstate(divide="ignore"):  # a wrong prediction of 0 or 1 gives inf; 0 · log 0 is 0
        clicked = np.log(np.where(p > 0, q, 1.0))
        passed = np.log1p(-np.where(p < 1, q, 0.0))
    return float(-(p * clicked + (1 - p) * passed).mean())


def bayes_auc(p: np.ndarray) -> float:
    """The AUC of the true probabilities; no model can be expected to beat it."""
    return expected_auc(p, p)


def bayes_logloss(p: np.ndarray) -> float:
    """The mean entropy of the labels; no model can be expected to have a lower log loss."""
    return expected_logloss(p, p)
