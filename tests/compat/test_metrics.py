"""AUROC as a module, GAUC of runs, global metrics."""

from __future__ import annotations

import pytest
import torch

from recis_core.compat.recis.framework.metrics import add_metric, get_global_metrics
from recis_core.compat.recis.metrics.auroc import AUROC
from recis_core.compat.recis.metrics.gauc import Gauc

LABELS = torch.tensor([0, 0, 1, 0, 0, 0, 1, 0, 1, 1])
PREDICTIONS = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])


def test_auroc_counts_at_thresholds() -> None:
    metric = AUROC()
    assert metric(PREDICTIONS, LABELS).item() == pytest.approx(0.7917, abs=5e-5)
    assert not metric.tp.any()  # forward counts nothing
    metric.update(PREDICTIONS[:5, None], LABELS[:5, None])
    metric.update(PREDICTIONS[5:], LABELS[5:].float())
    assert metric.compute().item() == pytest.approx(0.7917, abs=5e-5)
    assert metric.compute().dim() == 0
    state = metric.state_dict()
    assert list(state) == ["tp", "fp", "tn", "fn"]
    other = AUROC()
    other.load_state_dict(state)
    assert other.compute() == metric.compute()
    assert not any(parameter.requires_grad for parameter in metric.parameters())
    metric.reset()
    assert not metric.tn.any()


def test_auroc_refuses_what_is_no_probability() -> None:
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        AUROC()(torch.tensor([0.5, float("nan")]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="as many as predictions, 2; got 1"):
        AUROC()(torch.tensor([0.5, 0.5]), torch.tensor([0]))
    with pytest.raises(ValueError, match="above 2; got 2"):
        AUROC(2)


def test_gauc_leaves_out_the_first_and_last_run_and_runs_of_one_class() -> None:
    metric = Gauc()
    labels, predictions = torch.tensor([1.0, 0, 1, 0, 1]), torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    assert metric(labels, predictions, torch.tensor([0, 1, 1, 1, 2])) == (0.5, 0.5)
    indicators = torch.tensor([0, 1, 1, 2, 2, 2, 3, 3, 4])
    labels = torch.tensor([1.0, 0, 1, 1, 0, 0, 1, 1, 0])
    batch, total = metric(labels, torch.arange(9) / 10, indicators)
    assert batch == pytest.approx((1.0 * 2 + 0.0 * 3) / 5)  # run 3 has one class
    assert total == pytest.approx((0.5 * 3 + 2) / 8)
    two = torch.stack([1 - labels, labels], 1)
    assert Gauc()(two, torch.stack([torch.zeros(9), torch.arange(9) / 10], 1), indicators)[0] == pytest.approx(batch)
    metric.reset()
    assert metric(torch.ones(2), torch.ones(2), torch.tensor([0, 1])) == (0.0, 0.0)
    with pytest.raises(ValueError, match="indicators \\[N\\]"):
        metric(torch.ones(2), torch.ones(3), torch.ones(2))


def test_global_metrics_are_one_dict() -> None:
    add_metric("auc", 0.5)
    assert get_global_metrics()["auc"] == 0.5
    get_global_metrics().pop("auc")
