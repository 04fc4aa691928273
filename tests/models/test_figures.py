"""Each model reaches its figure on small data of a known truth; `python -m bench models` does so on more.

AUCs and recalls are expected ones over labels and choices drawn from the truth: without the noise of drawn ones.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from recis_core.bench.quality.clicks import auc
from recis_core.bench.quality.training import fit
from recis_core.io import SyntheticChoices, SyntheticClicks, SyntheticHistories, SyntheticTasks, bayes_auc, expected_auc
from recis_core.io.synthetic import Field, Preset
from recis_core.models import (
    DIN,
    DLRM,
    DeepFM,
    ItemIndex,
    MMoE,
    NegativeSampler,
    Retrieval,
    TwoTower,
    all_ids,
    task_losses,
)

ROWS = 25_000
FIELDS = (Field("a", 40, skew=0.5), Field("b", 30, skew=0.5), Field("c", 20, skew=0.5, max_length=3, empty=0.1))
THREE = Preset("three", FIELDS, rows=ROWS, linear=1.0, pair=0.3)
NAMES = [field.name for field in FIELDS]


@cache
def clicks() -> tuple[list[Any], list[Any]]:
    return parts(SyntheticClicks(THREE))


def parts(log: Any) -> tuple[list[Any], list[Any]]:
    return list(log.dataset(128, stop=ROWS)), list(log.dataset(4096, start=ROWS, stop=ROWS + 8192))


def clicked(model: Any, data: tuple[list[Any], list[Any]], lr: float = 1e-2) -> tuple[float, float]:
    """(AUC, the truth's) after one pass."""
    train, test = data
    fit(model, train, lambda batch: F.binary_cross_entropy_with_logits(model(batch), batch["label"]), lr)
    return auc(model, test)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: DeepFM(NAMES, 8, hidden=(32,), backend="torch"), id="DeepFM"),
        pytest.param(lambda: DLRM(NAMES, 8, top=(32,), backend="torch"), id="DLRM", marks=pytest.mark.full),
        pytest.param(
            lambda: DLRM(NAMES, 8, interaction="dcn", cross_layers=2, cross_rank=8, top=(32,), backend="torch"),
            id="DLRM-dcn",
            marks=pytest.mark.full,
        ),
    ],
)
def test_clicks_within_3_points_of_the_truth(make):
    torch.manual_seed(0)
    reached, best = clicked(make(), clicks())
    assert best > 0.8
    assert best - 0.03 < reached < best


def test_din_within_3_points_of_the_truth():
    torch.manual_seed(0)
    model = DIN(["item"], 8, attention=(16,), hidden=(32,), backend="torch")
    reached, best = clicked(model, parts(SyntheticHistories(12, kinds=3, max_length=4)), 2e-2)
    assert best > 0.75
    assert best - 0.03 < reached < best


def test_mmoe_within_3_points_of_each_tasks_truth():
    torch.manual_seed(0)
    log = SyntheticTasks(THREE)
    model = MMoE(NAMES, log.tasks, 8, experts=3, expert=(32, 16), tower=(8,), backend="torch")
    train, test = parts(log)
    fit(model, train, lambda batch: sum(loss.mean() for loss in task_losses(model(batch), batch).values()), 1e-2)
    model.eval()
    with torch.no_grad():
        logits = [model(batch) for batch in test]
    for task in log.tasks:
        scores = torch.cat([each[task] for each in logits]).numpy()
        p = torch.cat([batch[f"{task}:p"] for batch in test]).numpy()
        assert bayes_auc(p) > 0.8
        assert bayes_auc(p) - 0.03 < expected_auc(scores, p) < bayes_auc(p)


def recall(log: SyntheticChoices, **kwargs: Any) -> float:
    """Recall@10 over all items after one pass. correct: whether by log q."""
    torch.manual_seed(0)
    towers = TwoTower(["user"], ["item"], 8, width=8, hidden=(), backend="torch")
    table = towers.embeddings.table("item")
    sampler = NegativeSampler(table, refresh=10) if kwargs.pop("correct") else None
    fit(towers, log.dataset(128, stop=ROWS), Retrieval(towers, sampler, **kwargs), 1e-2)
    index = ItemIndex.of(towers, all_ids(table))
    towers.eval()
    top, _ = index.top(towers.users({"user": log.users}), 10)
    return log.recall(log.users, top)


def test_two_towers_within_6_points_of_the_best_recall():
    log = SyntheticChoices(60, 80)
    best = log.best_recall(log.users, 10)
    assert 0.6 < best < 0.8
    assert best - 0.06 < recall(log, correct=True, negatives=64) < best


@pytest.mark.full
def test_in_batch_negatives_need_log_q():
    log = SyntheticChoices(60, 80)
    best = log.best_recall(log.users, 10)
    assert recall(log, correct=False) < best - 0.1
    assert best - 0.06 < recall(log, correct=True) < best
