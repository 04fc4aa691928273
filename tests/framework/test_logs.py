"""What a TrainLoop tells: rates of wall time, and an AUC or why there is none."""

import time

import pytest
import torch
from torch import nn

from recis_core.framework import TrainLoop
from recis_core.framework import log_window as clocks
from recis_core.framework.window_auc import WindowAUC
from recis_core.nn import EmbeddingEngine, EmbeddingOption, filter_out_sparse_param
from recis_core.optim import SparseSGD, join

ROWS = 8


class Clicks(nn.Module):
    """Logits from one table and a bias; NaN for the id 13."""

    def __init__(self):
        super().__init__()
        self.embeddings = EmbeddingEngine({"item": EmbeddingOption(1, backend="torch")})
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, batch):
        logits = self.embeddings({"item": batch["item"]})["item"][:, 0] + self.bias
        return torch.where(batch["item"][:, 0] == 13, torch.nan, logits)


def loop_of(**kwargs):
    model = Clicks()
    heard = []
    sparse = SparseSGD(filter_out_sparse_param(model), lr=0.1)
    return TrainLoop(
        model, join(torch.optim.SGD(model.parameters(), 0.1), sparse), on_log=heard.append, **kwargs
    ), heard


def batch(labels=None, item=None):
    labels = torch.arange(ROWS) % 2 if labels is None else torch.tensor(labels)
    return {"item": torch.arange(ROWS)[:, None] if item is None else item, "label": labels.float()}


class Slow:
    """A clock in which each batch takes a second to read and each step two."""

    def __init__(self, monkeypatch, loop):
        self.now, self.loop = 100.0, loop
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        step = loop.optimizer.step
        monkeypatch.setattr(loop.optimizer, "step", lambda *args, **kwargs: (self.pass_(2), step(*args, **kwargs))[1])

    def pass_(self, seconds):
        self.now += seconds

    def batches(self, n):
        for _ in range(n):
            self.pass_(1)
            yield batch()


def test_rates_are_of_wall_time_with_the_reader(monkeypatch):
    loop, heard = loop_of(log_every=2)
    slow = Slow(monkeypatch, loop)
    slow.pass_(50)  # making the model is no training
    loop.begin()
    for each in slow.batches(4):
        loop.train_step(each)
    assert [logged.rows_per_s for logged in heard] == [2 * ROWS / 6] * 2
    slow.pass_(50)  # what follows the last step is none, either
    assert (loop.seconds, loop.trained_rows, loop.rows_per_s) == (12, 4 * ROWS, 4 * ROWS / 12)


def test_without_begin_the_first_step_starts_the_clock(monkeypatch):
    loop, heard = loop_of(log_every=2)
    for each in Slow(monkeypatch, loop).batches(2):
        loop.train_step(each)
    assert heard[0].rows_per_s == 2 * ROWS / 5


def test_a_pause_is_left_out(monkeypatch):
    loop, heard = loop_of(log_every=2)
    slow = Slow(monkeypatch, loop)
    loop.begin()
    for each in slow.batches(3):
        loop.train_step(each)
    loop.pause()
    slow.pass_(50)
    loop.begin()
    for each in slow.batches(1):
        loop.train_step(each)
    assert [logged.rows_per_s for logged in heard] == [2 * ROWS / 6] * 2


def test_a_resumed_run_counts_its_own_rows(monkeypatch):
    loop, _ = loop_of()
    for _ in range(5):
        loop.train_step(batch())
    resumed, _ = loop_of()
    resumed.load_state(loop.state())
    slow = Slow(monkeypatch, resumed)
    resumed.begin()
    for each in slow.batches(3):
        resumed.train_step(each)
    assert (resumed.rows, resumed.trained_rows) == (8 * ROWS, 3 * ROWS)
    assert resumed.rows_per_s == 3 * ROWS / 9


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"labels": [0] * ROWS}, "it needs labels of both classes; all 8 labels are 0"),
        ({"labels": [1] * ROWS}, "all 8 labels are 1"),
        ({"labels": [0.5] * ROWS}, "labels must be 0 or 1; got 0.5 at [0]"),
    ],
)
def test_a_window_without_an_area_says_why_and_the_next_has_one(given, why, caplog):
    loop, heard = loop_of(log_every=1)
    loop.train_step(batch(**given))
    loop.train_step(batch())
    assert heard[0].auc != heard[0].auc
    assert why in heard[0].auc_note
    assert 0 <= heard[1].auc <= 1
    assert heard[1].auc_note is None
    assert caplog.text == "", "told once, by the report"


def test_predictions_of_nan_have_no_area():
    auc = WindowAUC()
    auc.update(torch.tensor([0.1, torch.nan]), torch.tensor([0.0, 1.0]))
    again = WindowAUC()
    again.load_state_dict(auc.state_dict())
    for each in (auc, again):
        assert each.compute() != each.compute()
        assert "predictions must be numbers; got nan at [1]" in str(each.note)


def test_the_share_of_compilation(monkeypatch):
    """Of what was compiled before training, or in a pause, nothing."""
    compiled = 20.0
    monkeypatch.setattr(clocks, "compiling_seconds", lambda: compiled)
    loop, heard = loop_of(log_every=2)
    slow = Slow(monkeypatch, loop)
    compiled = 30.0
    loop.begin()
    for each in slow.batches(1):
        loop.train_step(each)
    loop.pause()
    compiled = 40.0
    loop.begin()
    compiled = 41.5
    for each in slow.batches(3):
        loop.train_step(each)
    assert [logged.compiling for logged in heard] == [0.25, 0.0]
    assert (loop.seconds, loop.compile_seconds) == (12.0, 1.5)
