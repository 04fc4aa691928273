"""Every metric alike: any split into batches and ranks gives what one batch gives; states, resets, refusals."""

from __future__ import annotations

import logging
import math
import signal
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import recis_core.metrics as metrics
from recis_core.metrics import AUROC, GAUC, Calibration, LogLoss, RecallAtK, TorchMetric, metric_of
from recis_core.metrics.ranking import OfRankings
from tests.metrics.streams import MAKERS, clicks, fed, taken, together

NEVER_SEEN = (
    "Bucket",
    "Gather",
    "Measure",
    "Metric",
    "TorchMetric",
    "auc",
    "logloss",
    "metric_of",
)  # of __all__, no metrics to make


def split(rows: int, parts: int, rng: np.random.Generator) -> list[np.ndarray]:
    """All rows in any order, in so many parts, some of them empty."""
    return np.split(rng.permutation(rows), np.sort(rng.integers(0, rows + 1, parts - 1)))


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@settings(max_examples=12, deadline=None)
@given(rows=st.integers(2, 300), batches=st.integers(1, 9), ranks=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_any_split_is_one_batch(make: Any, rows: int, batches: int, ranks: int, seed: int) -> None:
    columns, rng = clicks(rows, seed), np.random.default_rng(seed)
    want = fed(make(), columns).compute()
    shares = [fed(make(), columns, split_of_rank(share, batches, rng)) for share in split(rows, ranks, rng)]
    together(shares)
    values = [share.compute() for share in shares]
    assert len({repr(value) for value in values}) == 1, "the same bits on all ranks"
    assert values[0] == pytest.approx(want, rel=1e-12, nan_ok=True)


def split_of_rank(share: np.ndarray, batches: int, rng: np.random.Generator) -> list[np.ndarray]:
    return [share[part] for part in split(len(share), batches, rng)]


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_call_adds_a_batch_and_gives_its_value_alone(make: Any) -> None:
    columns = clicks(400)
    metric, half = make(), slice(0, 200)
    assert metric(**taken(metric, columns, half)) == fed(make(), columns, [half]).compute() == metric.compute()
    other = slice(200, 400)
    assert metric(**taken(metric, columns, other)) == fed(make(), columns, [other]).compute()
    assert metric.compute() == pytest.approx(fed(make(), columns).compute(), rel=1e-12)
    metric.reset()
    assert fed(metric, columns, [half]).compute() == fed(make(), columns, [half]).compute()


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_state_goes_on_with_the_same_bits(make: Any) -> None:
    columns = clicks(200_000, groups=500)
    halves, whole = (slice(0, 110_001), slice(110_001, None)), make()
    first = fed(whole, columns, halves[:1]).state_dict()
    kept = {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in first.items()}
    fed(whole, columns, halves[1:])
    again = make()
    again.load_state_dict(first)
    assert repr(fed(again, columns, halves[1:]).compute()) == repr(whole.compute())
    assert all(torch.equal(first[n], kept[n]) for n in first if isinstance(first[n], torch.Tensor)), "it is a copy"


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_state_of_another_metric_is_refused(make: Any) -> None:
    metric = fed(make(), clicks(50))
    before = metric.compute()
    other = RecallAtK(9) if "RecallAtK" in repr(metric) else RecallAtK(2)
    with pytest.raises(ValueError, match="the state must be one of "):
        metric.load_state_dict(other.state_dict())
    state = metric.state_dict()
    del state[next(name for name in state if isinstance(state[name], torch.Tensor))]
    with pytest.raises(ValueError, match="a state of .* holds "):
        metric.load_state_dict(state)
    assert metric.compute() == before


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_nothing_and_empty_batches(make: Any, caplog: Any) -> None:
    """No rows: nan, and a word of why; an empty batch changes nothing; an empty rank adds nothing."""
    with caplog.at_level(logging.WARNING, "recis_core"):
        assert math.isnan(make().compute())
    assert "is nan: " in caplog.text
    assert caplog.text.rstrip().endswith(".")
    columns = clicks(300)
    metric = fed(make(), columns, [slice(0, 0), slice(None), slice(0, 0)])
    want = fed(make(), columns).compute()
    assert metric.compute() == want
    both = [metric, make()]
    together(both)
    assert [each.compute() for each in both] == [pytest.approx(want, rel=1e-12)] * 2


OF_ROWS = [make for make in MAKERS.values() if make().weighted and not isinstance(make(), OfRankings)]
OF_QUERIES = [make for make in MAKERS.values() if isinstance(make(), OfRankings)]
UNWEIGHTED = [make for make in MAKERS.values() if not make().weighted]


@pytest.mark.parametrize("make", OF_ROWS)
def test_a_weight_of_two_is_the_row_twice(make: Any) -> None:
    p, y, g, w = clicks(500)
    metric, repeated = make(), make()
    times = (w * 2).astype(int)  # some of them 0
    metric.update(**taken(metric, (p, y, g, w * 2)))
    repeated.update(**taken(metric, [np.repeat(column, times) for column in (p, y, g, np.ones(500))]))
    assert metric.compute() == pytest.approx(repeated.compute(), rel=1e-12)
    plainly = make()
    plainly.update(**taken(metric, (p, y, g, np.ones(500))))
    assert metric.compute() != pytest.approx(plainly.compute(), rel=1e-6), "weights are heeded"


@pytest.mark.parametrize("make", OF_ROWS + OF_QUERIES)
def test_weights_are_checked_and_zeros_leave_rows_out(make: Any) -> None:
    p, y, g, w = clicks(500)
    metric = fed(make(), (p, y, g, w))
    want, more = metric.compute(), {"groups": [0, 0]} if metric.grouped else {}
    with pytest.raises(ValueError, match=r"weights must be finite and 0 or more; got -1 at \[1\]"):
        metric.update([0.5, 0.5], [0, 1], weights=[1, -1], **more)
    with pytest.raises(ValueError, match="weights must have one number for each of 2 predictions; got 3"):
        metric.update([0.5, 0.5], [0, 1], weights=[1, 1, 1], **more)
    assert metric.compute() == want
    some = w > 0
    assert fed(make(), [column[some] for column in (p, y, g, w)]).compute() == pytest.approx(want, rel=1e-12)
    assert math.isnan(fed(make(), (p, y, g, np.zeros(500))).compute())


@pytest.mark.parametrize("make", OF_QUERIES)
def test_a_querys_weight_of_two_is_the_query_twice(make: Any) -> None:
    p, y, g, _ = clicks(500)
    times = np.abs(g) % 4  # of whole queries, some of them 0
    again = [np.repeat(column, times) for column in (p, y)]
    copies = np.concatenate([np.arange(n) for n in times]) * 1000 + np.repeat(g, times)
    metric, repeated = make(), make()
    metric.update(p, y, g, times)
    repeated.update(*again, copies)
    assert metric.compute() == pytest.approx(repeated.compute(), rel=1e-12)
    half = make()
    half.update(p[:250], y[:250], g[:250], np.ones(250))
    half.update(p[250:], y[250:], g[250:])
    plainly = make()
    plainly.update(p, y, g)
    assert half.compute() == plainly.compute()
    assert metric.compute() != pytest.approx(plainly.compute(), rel=1e-6)


@pytest.mark.parametrize("make", UNWEIGHTED)
def test_who_takes_no_weights_says_so(make: Any) -> None:
    metric = make()
    arguments = taken(metric, clicks(9)) | {"weights": np.ones(9)}
    with pytest.raises(TypeError, match="takes no weights; leave them out"):
        metric.update(**arguments)
    assert math.isnan(metric.compute())


def test_groups_are_asked_for_and_checked() -> None:
    p, y = [0.1, 0.2], [0, 1]
    with pytest.raises(ValueError, match=r"GAUC\('positives'\) needs groups, an integer for each row"):
        GAUC().update(p, y)
    with pytest.raises(TypeError, match=r"AUROC\(\) takes no groups"):
        AUROC().update(p, y, [1, 1])
    with pytest.raises(TypeError, match="groups must be integers; got float64. recis_core.hashing"):
        GAUC().update(p, y, [1.0, 2.0])
    with pytest.raises(TypeError, match="groups must be integers"):
        GAUC().update(p, y, np.array(["a", "b"]))
    with pytest.raises(ValueError, match="groups must have one integer for each of 2 predictions; got 3"):
        GAUC().update(p, y, [1, 2, 3])
    metric = GAUC()
    metric.update([0.1, 0.2, 0.3, 0.4], [0, 1, 1, 0], torch.tensor([[-(2**63), -(2**63)], [2**63 - 1, 2**63 - 1]]))
    assert metric.compute() == 0.5


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_an_update_that_is_refused_or_interrupted(make: Any) -> None:
    columns = clicks(100)
    metric = fed(make(), columns)
    want = metric.compute()
    arguments = taken(metric, columns)
    for wrong in ({"labels": [math.nan] * 100}, {"labels": columns[1][:-1]}, {"predictions": [math.nan] * 100}):
        with pytest.raises(ValueError, match="labels|predictions"):
            metric.update(**(arguments | wrong))
    assert metric.compute() == want
    added = metric._add

    def interrupting(*rows: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        added(*rows)

    metric._add = interrupting
    with pytest.raises(KeyboardInterrupt):
        metric.update(**arguments)
    del metric._add
    assert metric.compute() == pytest.approx(fed(make(), columns, [slice(None)] * 2).compute(), rel=1e-12)


def test_every_metric_is_here() -> None:
    made = {type(make()).__name__ for make in MAKERS.values()}
    assert made == set(metrics.__all__) - set(NEVER_SEEN)


def test_names() -> None:
    named = {
        "auc": "AUROC()",
        "recall@5": "RecallAtK(5, 'skip')",
        "mrr": "MRR(None, 'skip')",
        " ndcg@3": "NDCGAtK(3, 'skip')",
    }
    assert {name: repr(metric_of(name)) for name in named} == named
    wrong = {
        "gacu": "got 'gacu'. Did you mean gauc?", "recall": "'recall' must read recall@K", "auc@3": "'auc@3' must read auc.",
        "hit@0": "the K of 'hit@0' must be a whole number", "": "a metric is one of auc, gauc",
    }  # fmt: skip
    for name, said in wrong.items():
        with pytest.raises(ValueError) as refusal:
            metric_of(name)
        assert said in str(refusal.value)


def test_constructors_check() -> None:
    for make, said in (
        (lambda: RecallAtK(0), "k must be a whole number, at least 1, or None; got 0"),
        (lambda: RecallAtK(None), "k must be a whole number, at least 1; got None"),
        (lambda: RecallAtK(2, "pos"), "without_positives must be 'skip' or 'zero'; got 'pos'"),
        (lambda: GAUC("clicks"), "weighting must be one of positives, rows, groups; got 'clicks'"),
        (lambda: LogLoss(0.5), "floor must be above 0 and below 0.5; got 0.5"),
        (lambda: metrics.CalibrationByBucket(0), "buckets must be a whole number, at least 1; got 0"),
    ):
        with pytest.raises(ValueError) as refusal:
            make()
        assert said in str(refusal.value)
    with pytest.raises(TypeError, match="metric must be one of torchmetrics; got Calibration"):
        TorchMetric(Calibration())
