"""Values: by hand, by definitions a row at a time (plain.py), and beside torchmetrics."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torchmetrics.classification import BinaryAveragePrecision, BinaryCalibrationError, BinaryF1Score
from torchmetrics.retrieval import RetrievalHitRate, RetrievalMRR, RetrievalNormalizedDCG, RetrievalRecall

from recis_core.metrics import (
    GAUC,
    MRR,
    RMSE,
    Calibration,
    CalibrationByBucket,
    HitRateAtK,
    LogLoss,
    NDCGAtK,
    NormalizedEntropy,
    RecallAtK,
    TorchMetric,
    logloss,
)  # fmt: skip
from recis_core.metrics.group_scores import GroupScores
from tests.metrics import plain
from tests.metrics.streams import clicks, fed, together


def test_gauc_by_hand() -> None:
    """Two groups, not contiguous: areas 1 (one positive) and 1/4 with a tie (two); a group of one class counts nothing."""
    p = [0.9, 0.5, 0.1, 0.4, 0.5, 0.7, 0.8]
    y = [1, 1, 0, 1, 0, 1, 1]
    g = [1, 2, 1, 2, 2, 3, 3]
    areas, positives = (1.0, 0.25), (1, 2)
    metric = GAUC()
    assert metric(p, y, g) == pytest.approx(sum(map(math.prod, zip(areas, positives, strict=True))) / 3)
    assert GAUC("rows")(p, y, g) == pytest.approx((2 * 1 + 3 * 0.25) / 5)
    assert GAUC("groups")(p, y, g) == pytest.approx(0.625)
    assert GAUC()(np.array(p) * 100 - 7, y, g) == metric.compute()
    one = GAUC()
    one.update([0.5, 0.6], [1, 1], [7, 8])
    assert one.undefined == "it needs a group with labels of both classes; there are 2 groups, none of them such"


def test_gauc_of_weights_by_hand() -> None:
    """The same groups: in group 2 the pairs (1, 2) tie and (1, 3) lie below; weights make group 2's area 1/10."""
    p, y, g = [0.9, 0.5, 0.1, 0.4, 0.5], [1, 1, 0, 1, 0], [1, 2, 1, 2, 2]
    w = [2.0, 0.5, 3.0, 2.0, 1.0]
    areas, positives, rows = (1.0, 0.5 * 0.5 / 2.5), (2.0, 2.5), (5.0, 3.5)
    metric = GAUC()
    metric.update(p, y, g, w)
    assert metric.compute() == pytest.approx((areas[0] * positives[0] + areas[1] * positives[1]) / 4.5)
    assert GAUC("rows")(p, y, g, w) == pytest.approx((areas[0] * rows[0] + areas[1] * rows[1]) / 8.5)
    assert GAUC("groups")(p, y, g, w) == pytest.approx(0.55)


def test_a_group_of_a_ranking_has_the_mean_weight_of_its_rows() -> None:
    p, y, g = [0.9, 0.5, 0.4, 0.1], [1, 0, 0, 1], [1, 1, 2, 2]
    w = [1.0, 3.0, 0.25, 0.75]
    assert MRR()(p, y, g, w) == pytest.approx((2 * 1 + 0.5 * 0.5) / 2.5)
    assert RecallAtK(1)(p, y, g, w) == pytest.approx(2 / 2.5)
    assert RecallAtK(1)(p, y, g) == 0.5


ranks = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=14)


@settings(max_examples=60, deadline=None)
@given(rows=ranks, k=st.integers(1, 6))
def test_groups_by_their_definition(rows: list[tuple[int, int, int]], k: int) -> None:
    """All orders of tied rows, one by one."""
    p, y, g = (np.array(column) for column in zip(*rows, strict=True))
    groups = plain.by_group(p, y, g)
    assume(all(len(rows) <= 6 for rows in groups.values()))
    if any({label for _, label in rows} == {0.0, 1.0} for rows in groups.values()):
        assert GAUC()(p, y, g) == pytest.approx(plain.gauc(groups), rel=1e-12)
        assert GAUC("rows")(p, y, g) == pytest.approx(plain.gauc(groups, len), rel=1e-12)
    if y.any():
        for metric, of_labels in (
            (RecallAtK(k), plain.recall), (HitRateAtK(k), plain.hit), (MRR(k), plain.reciprocal), (NDCGAtK(k), plain.ndcg)
        ):  # fmt: skip
            assert metric(p, y, g) == pytest.approx(plain.ranked(groups, of_labels, k), rel=1e-9, abs=1e-12), metric
        assert MRR()(p, y, g) == pytest.approx(plain.ranked(groups, plain.reciprocal, None), rel=1e-9)
        assert NDCGAtK()(p, y, g) == pytest.approx(plain.ranked(groups, plain.ndcg, None), rel=1e-9)


def test_a_reference_that_is_off_is_seen() -> None:
    p, y, g = [0.9, 0.5, 0.1], [0, 1, 0], [4, 4, 4]
    groups = plain.by_group(p, y, g)
    assert MRR()(p, y, g) == 0.5 != pytest.approx(plain.ranked(groups, lambda labels, k: 1.0, None))
    assert NDCGAtK()(p, y, g) == pytest.approx(1 / math.log2(3))


def test_graded_gains() -> None:
    p, gains, g = [0.9, 0.5, 0.1], [1.0, 0.0, 3.0], [1, 1, 1]
    want = (1 + 3 / 2) / (3 + 1 / math.log2(3))
    assert NDCGAtK(3)(p, gains, g) == pytest.approx(want)
    assert NDCGAtK(1)(p, gains, g) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match=r"labels must be finite and 0 or more; got -1 at \[0\]"):
        NDCGAtK(1).update([0.1], [-1.0], [0])


THEIRS: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (RecallAtK, RetrievalRecall), (HitRateAtK, RetrievalHitRate), (MRR, RetrievalMRR), (NDCGAtK, RetrievalNormalizedDCG)
]  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs"), THEIRS)
@pytest.mark.parametrize("without", ["skip", "zero"])
def test_as_torchmetrics_where_nothing_is_tied(ours: Any, theirs: Any, without: str) -> None:
    _, y, g, _ = clicks(600)
    p = np.random.default_rng(1).permutation(600) / 600
    action = {"skip": "skip", "zero": "neg"}[without]
    for k in (1, 3, 10):
        metric = theirs(top_k=k, empty_target_action=action)
        metric.update(torch.from_numpy(p), torch.from_numpy(y).long(), indexes=torch.from_numpy(g))
        assert ours(k, without)(p, y, g) == pytest.approx(float(metric.compute()), rel=1e-6)


def test_ndcg_of_ties_as_torchmetrics() -> None:
    p, y, g, _ = clicks(600)
    metric = RetrievalNormalizedDCG(top_k=4, empty_target_action="skip")
    metric.update(torch.from_numpy(p), torch.from_numpy(y).long(), indexes=torch.from_numpy(g))
    assert NDCGAtK(4)(p, y, g) == pytest.approx(float(metric.compute()), rel=1e-6)


def test_only_the_best_rows_of_a_group_are_kept() -> None:
    """A hundred thousand rows of three groups; what is kept does not grow with them."""
    rng, metric = np.random.default_rng(0), RecallAtK(5)
    for _ in range(20):
        metric.update(rng.random(5000), rng.integers(0, 2, 5000), rng.integers(0, 3, 5000))
    assert len(metric._best.entries()) == 15
    assert len(metric._totals.entries()) == 3
    assert metric._totals.entries().rows.sum() == 100_000
    waiting = GroupScores(5)
    for _ in range(40):
        waiting.add(rng.integers(0, 3, 5000), rng.random(5000), np.ones(5000))
        assert sum(map(len, waiting._waiting)) < 1 << 17


def test_a_long_tie_is_its_mean() -> None:
    """A constant model of 1,000 rows of which 10 are positive: what chance gives."""
    p, y, g = np.full(1000, 0.5), np.arange(1000) < 10, np.zeros(1000, int)
    assert GAUC()(p, y, g) == 0.5
    assert RecallAtK(20)(p, y, g) == pytest.approx(0.02)
    missed = math.comb(990, 20) / math.comb(1000, 20)
    assert HitRateAtK(20)(p, y, g) == pytest.approx(1 - missed, rel=1e-9)
    chance = [math.comb(1000 - j, 9) / math.comb(1000, 10) for j in range(1, 992)]
    assert sum(chance) == pytest.approx(1)
    assert MRR()(p, y, g) == pytest.approx(sum(c / j for j, c in enumerate(chance, 1)), rel=1e-9)


def test_losses_by_hand() -> None:
    p, y, w = np.array([0.8, 0.4, 0.9]), np.array([1, 0, 0]), np.array([1.0, 3.0, 0.0])
    loss = -(math.log(0.8) + 3 * math.log(0.6)) / 4
    metric = LogLoss()
    metric.update(p, y, weights=w)
    assert metric.compute() == pytest.approx(loss)
    entropy = NormalizedEntropy()
    entropy.update(p, y, weights=w)
    assert entropy.compute() == pytest.approx(loss / -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))
    assert LogLoss()(p, y) == pytest.approx(logloss(p, y))
    assert NormalizedEntropy()([0.3] * 10, [1] * 3 + [0] * 7) == pytest.approx(1)
    one = NormalizedEntropy()
    one.update([0.5, 0.5], [1, 1])
    assert one.undefined == "it needs labels of both classes with weights above 0"


def test_calibration_by_hand() -> None:
    assert Calibration()([0.2, 0.4, 0.6], [0, 0, 1]) == pytest.approx(1.2)
    metric = CalibrationByBucket(4)
    assert metric([0.2, 0.1, 0.5, 1.0], [0, 1, 1, 1]) == pytest.approx((0.7 + 0.5 + 0) / 4)
    table = metric.buckets()
    assert [(b.low, b.high, b.weight) for b in table] == [(0, 0.25, 2), (0.25, 0.5, 0), (0.5, 0.75, 1), (0.75, 1, 1)]
    assert (table[0].predicted, table[0].clicked) == (pytest.approx(0.15), 0.5)
    assert math.isnan(table[1].predicted)


def test_calibration_error_as_torchmetrics() -> None:
    rng = np.random.default_rng(0)
    p, y = rng.random(5000), rng.integers(0, 2, 5000)
    metric = BinaryCalibrationError(n_bins=15)
    metric.update(torch.from_numpy(p), torch.from_numpy(y))
    assert CalibrationByBucket(15)(p, y) == pytest.approx(float(metric.compute()), abs=1e-6)


def test_rmse_is_torchmetrics_in_float64() -> None:
    p, y = np.array([1e8, 3.0, -2.5]), np.array([1e8 + 1e-7, 1.0, 0.5])
    assert RMSE()(p, y) == pytest.approx(math.sqrt(np.mean((p - y) ** 2)), rel=1e-12)
    theirs = torchmetrics.MeanSquaredError(squared=False)
    theirs.update(torch.tensor([3.0, -2.5]), torch.tensor([1.0, 0.5]))
    assert RMSE()([3.0, -2.5], [1.0, 0.5]) == pytest.approx(float(theirs.compute()))


@pytest.mark.parametrize(
    "make", [BinaryAveragePrecision, BinaryF1Score, lambda: RetrievalRecall(top_k=2, empty_target_action="skip")]
)
def test_any_metric_of_torchmetrics(make: Any) -> None:
    """In batches, on ranks of which one is empty, and by a state: what the metric gives by itself."""
    columns = clicks(400)
    p, y, g = (torch.from_numpy(column) for column in columns[:3])
    theirs = make()
    theirs.update(p, y.long(), **({"indexes": g} if "Retrieval" in type(theirs).__name__ else {}))
    want = pytest.approx(float(theirs.compute()), rel=1e-6)
    given_in = [slice(0, 130), slice(130, 400)]
    shares = [fed(TorchMetric(make()), columns, [part]) for part in given_in] + [TorchMetric(make())]
    together(shares)
    assert [share.compute() for share in shares] == [want] * 3
    again = TorchMetric(make())
    again.load_state_dict(fed(TorchMetric(make()), columns, given_in[:1]).state_dict())
    assert fed(again, columns, given_in[1:]).compute() == want


def test_a_metric_that_does_not_merge_is_refused() -> None:
    with pytest.raises(
        ValueError, match="PearsonCorrCoef cannot be reduced over ranks: its state 'mean_x' merges by None"
    ):
        TorchMetric(torchmetrics.PearsonCorrCoef())
    theirs = torchmetrics.MeanSquaredError()
    theirs.update(torch.ones(3), torch.zeros(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(TorchMetric(theirs).compute()), "without the rows it had"
    assert float(theirs.compute()) == 1.0
