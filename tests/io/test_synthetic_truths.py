"""Histories, tasks and choices: any cut gives the same samples, and labels follow the truth that is told."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from recis_core.io import SyntheticChoices, SyntheticHistories, SyntheticTasks, bayes_auc
from tests.io.test_synthetic import assert_same, joined

LOGS = {
    "histories": lambda seed=3: SyntheticHistories(50, kinds=5, max_length=6, seed=seed),
    "tasks": lambda seed=3: SyntheticTasks("tiny", seed),
    "choices": lambda seed=3: SyntheticChoices(40, 30, seed=seed),
}


@pytest.mark.parametrize("name", LOGS)
def test_any_cut_gives_the_same_samples(name):
    log = LOGS[name]()
    cuts = [0, 1, 64, 65, 200]
    parts = [log.batch(a, b - a) for a, b in itertools.pairwise(cuts)]
    assert_same(joined(parts), joined([LOGS[name]().batch(0, 200)]))
    assert_same(joined(list(log.dataset(64, stop=200))), joined([log.batch(0, 200)]))
    with pytest.raises(AssertionError):
        assert_same(joined([LOGS[name](4).batch(0, 200)]), joined([log.batch(0, 200)]))
    with pytest.raises(ValueError, match="start and n must be"):
        log.batch(0, -1)


@pytest.mark.parametrize("name", LOGS)
def test_a_reader_goes_on_and_refuses_another_logs_state(name):
    reader = iter(LOGS[name]().dataset(32, stop=128))
    log = LOGS[name]().dataset(32, stop=128)
    batches = iter(log)
    next(batches)
    state = log.state_dict()
    resumed = LOGS[name]().dataset(32, stop=128)
    resumed.load_state_dict(state)
    assert_same(joined(list(resumed)), joined(list(reader)[1:]))
    with pytest.raises(Exception, match="seed"):
        LOGS[name](4).dataset(32, stop=128).load_state_dict(state)


def test_histories_labels_follow_p():
    batch = LOGS["histories"]().batch(0, 20_000)
    p, label = batch["p"].numpy(), batch["label"].numpy()
    assert p.mean() == pytest.approx(0.3, abs=0.01)
    for low, high in itertools.pairwise(np.quantile(p, [0, 0.25, 0.5, 0.75, 1])):
        here = (p >= low) & (p <= high)
        assert label[here].mean() == pytest.approx(p[here].mean(), abs=0.03)
    assert 0.7 < bayes_auc(p) < 1
    lengths = batch["history"].lengths()
    assert lengths.min() == 0
    assert lengths.max() == 6
    items = batch["item"].unique()
    assert torch.isin(batch["history"].values().unique(), items).all()


def test_a_history_of_the_items_kind_raises_p():
    batch = SyntheticHistories(5, kinds=5, max_length=1, popularity=0.0).batch(0, 2000)
    p, history = batch["p"], batch["history"]
    event = torch.zeros(2000, dtype=torch.int64)
    event[history.lengths() == 1] = history.values()
    same = (event == batch["item"]) & (history.lengths() == 1)
    assert len(p[same].unique()) == len(p[~same].unique()) == 1
    odds = [torch.logit(part[0]) for part in (p[same], p[~same])]
    assert odds[0] - odds[1] == pytest.approx(4.0 * 0.5)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 1.0])
def test_tasks_are_related_as_told(correlation):
    batch = SyntheticTasks("tiny", correlation=correlation).batch(0, 20_000)
    z = torch.stack([torch.logit(batch[f"{task}:p"]) for task in ("click", "buy")])
    assert torch.corrcoef(z)[0, 1] == pytest.approx(correlation, abs=0.12)
    for task in ("click", "buy"):
        assert batch[task].mean() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(batch["click"], batch["buy"]) is False


def test_choices_follow_their_probabilities():
    log = SyntheticChoices(3, 6, seed=1)
    batch = log.batch(0, 30_000)
    truth = log.probabilities(log.users)
    torch.testing.assert_close(truth.sum(1), torch.ones(3).double())
    for user, p in zip(log.users, truth, strict=True):
        chosen = batch["item"][batch["user"] == user]
        found = torch.stack([(chosen == item).double().mean() for item in log.items])
        torch.testing.assert_close(found, p, atol=0.02, rtol=0)
    top = log.items[truth.topk(2).indices]
    assert log.recall(log.users, top) == pytest.approx(log.best_recall(log.users, 2))
    worst = log.items[truth.topk(2, largest=False).indices]
    assert log.recall(log.users, worst) < log.best_recall(log.users, 2)
    assert log.recall(log.users, torch.full((3, 2), 12345)) == 0  # ids that are no items


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SyntheticHistories(5, kinds=6), "kinds from 1 to items"),
        (lambda: SyntheticTasks(tasks=("user",)), "none of them a field's"),
        (lambda: SyntheticTasks(correlation=1.5), "correlation 0 to 1"),
        (lambda: SyntheticChoices(0), "1 or more"),
    ],
)
def test_wrong_arguments_are_named(make, said):
    with pytest.raises(ValueError, match=said):
        make()
