"""AUC by thresholds with RecIS's number, and exactly."""

import math

import numpy as np
import pytest
import torch

from recis_core.metrics import AUROC, auc, logloss

LABELS = [0, 0, 1, 0, 0, 0, 1, 0, 1, 1]
PREDICTIONS = [0.1, 0.2, 0.3, 0.4, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def test_behaviours_number():
    metric = AUROC(num_thresholds=200)
    metric.update(torch.tensor(PREDICTIONS), torch.tensor(LABELS))
    assert metric.compute() == pytest.approx(0.7917, abs=5e-5)


def test_batches_add_up_and_reset_forgets():
    whole, parts = AUROC(), AUROC()
    predictions, labels = torch.rand(1000, generator=torch.Generator().manual_seed(0)), torch.arange(1000) % 3 == 0
    whole.update(predictions, labels)
    for k in range(0, 1000, 130):
        parts.update(predictions[k : k + 130], labels[k : k + 130])
    assert parts.compute() == pytest.approx(whole.compute(), abs=1e-12)
    parts.reset()
    parts.update(torch.tensor(PREDICTIONS), torch.tensor(LABELS))
    assert parts.compute() == pytest.approx(0.7917, abs=5e-5)


def test_exact_auc_by_all_pairs():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 200), rng.integers(0, 20, 200) / 20
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[labels == 1] for n in scores[labels == 0]]
    assert auc(labels, scores) == pytest.approx(np.mean(pairs), abs=1e-12)
    assert auc(LABELS, PREDICTIONS) == pytest.approx(19 / 24)
    assert math.isnan(auc(np.ones(3), np.arange(3)))


def test_logloss_by_hand():
    assert logloss([1, 0], [0.8, 0.4]) == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
    assert logloss([1], [0.0]) == pytest.approx(-math.log(1e-7))


def test_a_metric_needs_two_thresholds():
    with pytest.raises(ValueError, match="at least 2; got 1"):
        AUROC(1)
