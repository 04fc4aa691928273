"""RecIS's numbers, exact values by hand, and what is refused."""

import logging
import math
import signal

import numpy as np
import pytest
import torch

from recis_core.metrics import AUROC, auc, logloss

LABELS = [0, 0, 1, 0, 0, 0, 1, 0, 1, 1]
PREDICTIONS = [0.1, 0.2, 0.3, 0.4, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def area(predictions, labels, thresholds=None):
    metric = AUROC(thresholds)
    metric.update(predictions, labels)
    return metric.compute()


# As one call (predictions, labels).
CALLS = {"AUROC": area, "auc": auc, "logloss": logloss}


def test_behaviours_number():
    assert area(torch.tensor(PREDICTIONS), torch.tensor(LABELS), 200) == pytest.approx(0.7917, abs=5e-5)


@pytest.mark.parametrize("thresholds", [None, 200])
def test_batches_add_up_and_reset_forgets(thresholds):
    whole, parts = AUROC(thresholds), AUROC(thresholds)
    predictions, labels = torch.rand(1000, generator=torch.Generator().manual_seed(0)), torch.arange(1000) % 3 == 0
    whole.update(predictions, labels)
    for k in range(0, 1000, 130):
        parts.update(predictions[k : k + 130], labels[k : k + 130])
    assert parts.compute() == whole.compute()
    parts.reset()
    parts.update(torch.tensor(PREDICTIONS), torch.tensor(LABELS))
    assert parts.compute() == pytest.approx(19 / 24, abs=1e-5)


def test_exact_auc_by_all_pairs():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 200), rng.integers(0, 20, 200) / 20
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[labels == 1] for n in scores[labels == 0]]
    assert auc(scores, labels) == pytest.approx(np.mean(pairs), abs=1e-12)
    assert auc(scores - 7, labels) == auc(scores, labels)
    assert auc(PREDICTIONS, LABELS) == pytest.approx(19 / 24)


def test_logloss_by_hand():
    assert logloss([0.8, 0.4], [1, 0]) == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
    assert logloss([0.0], [1]) == pytest.approx(-math.log(1e-7))
    assert math.isnan(logloss([], []))


@pytest.mark.parametrize("wrong", [1, 0, 2.5, True, "200"])
def test_a_metric_needs_two_thresholds(wrong):
    with pytest.raises(ValueError, match=f"at least 2, or None; got {wrong!r}"):
        AUROC(wrong)


@pytest.mark.parametrize("labels", [[1, 1], [0, 0], []])
@pytest.mark.parametrize("metric", [area, lambda p, y: area(p, y, 200), auc])
def test_one_class_has_no_area_and_that_is_said(metric, labels, caplog):
    with caplog.at_level(logging.WARNING, "recis_core"):
        assert math.isnan(metric(torch.rand(len(labels)), torch.tensor(labels)))
    said = f"all 2 labels are {labels[0]}" if labels else "there are none"
    assert f"is nan: it needs labels of both classes; {said}." in caplog.text


def test_bounds_of_one_class_are_nan():
    assert all(map(math.isnan, AUROC().bounds()))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_one_order_of_arguments(call):
    """Predictions, then labels: the other order is refused, for scores are no labels."""
    assert math.isfinite(call(PREDICTIONS, LABELS))
    with pytest.raises(
        ValueError, match=r"labels must be 0 or 1; got 0\.1 at \[0\]\. The order is \(predictions, labels\)"
    ):
        call(LABELS, PREDICTIONS)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.uint8, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_tensors_of_any_real_kind(call, dtype):
    predictions, labels = torch.tensor(PREDICTIONS, dtype=torch.float64), torch.tensor(LABELS)
    want = call(predictions, labels)
    assert call(predictions.requires_grad_(), labels.to(dtype)) == want
    assert call(predictions[:, None], labels.bool()) == want
    assert call(predictions.reshape(2, 5), labels.reshape(2, 5)) == want
    assert call(predictions.detach().numpy(), np.array(LABELS, bool)) == want
    if dtype.is_floating_point:
        assert call(predictions.to(dtype), labels) == pytest.approx(want, abs=0.01)


def test_torchmetrics_takes_the_same_arguments_in_the_same_order():
    theirs = pytest.importorskip("torchmetrics.functional.classification")
    predictions, labels = torch.tensor(PREDICTIONS, dtype=torch.float64), torch.tensor(LABELS)
    want = float(theirs.binary_auroc(predictions, labels))
    assert want == pytest.approx(19 / 24)
    assert area(predictions, labels) == pytest.approx(want)
    assert auc(predictions, labels) == pytest.approx(want)


def test_a_signal_waits_for_an_update():
    """What an interrupt leaves is a metric with the batch or without it."""
    metric = AUROC()

    class Interrupting:
        def add(self, predictions, labels, weights):
            signal.raise_signal(signal.SIGINT)
            seen.add(predictions, labels, weights)

    seen, metric._seen = metric._seen, Interrupting()
    with pytest.raises(KeyboardInterrupt):
        metric.update(torch.tensor(PREDICTIONS), torch.tensor(LABELS))
    assert seen.classes() == (4, 6)


WRONG = {
    "labels of -1": ([0.2, 0.7], [-1.0, 1.0], "labels must be 0 or 1; got -1 at [0]"),
    "a soft label": ([0.2, 0.7], [1.0, 0.5], "labels must be 0 or 1; got 0.5 at [1]"),
    "a label of nan": ([0.2, 0.7], [1.0, math.nan], "labels must be 0 or 1; got nan at [1]"),
    "nan": ([0.2, math.nan], [0, 1], "predictions must be numbers; got nan at [1]"),
    "shapes": ([0.2, 0.7, 0.1], [0, 1], "predictions and labels must have one shape; got [3] and [2]"),
    "turned": ([[0.2, 0.7, 0.1]] * 2, [[0, 1]] * 3, "must have one shape; got [2, 3] and [3, 2]"),
}
NO_PROBABILITIES = {
    "logits": ([-3.0, 3.0], [0, 1], "predictions must lie in [0, 1]; got -3 at [0]. Logits go through torch.sigmoid"),
    "inf": ([0.5, math.inf], [0, 1], "predictions must lie in [0, 1]; got inf at [1]"),
}


@pytest.mark.parametrize(
    ("name", "case"),
    [(name, case) for name in CALLS for case in WRONG]
    + [(n, c) for n in CALLS if n != "auc" for c in NO_PROBABILITIES],
)
def test_what_is_refused_is_named(name, case):
    predictions, labels, message = (WRONG | NO_PROBABILITIES)[case]
    for as_given in (torch.tensor, np.array):
        with pytest.raises(ValueError) as refusal:
            CALLS[name](as_given(predictions), as_given(labels))
        assert message in str(refusal.value)


@pytest.mark.parametrize("predictions", [np.array(["a", "b"]), np.array([1j, 2]), torch.tensor([1j, 2])])
def test_what_is_no_number_is_refused(predictions):
    for call in CALLS.values():
        with pytest.raises(TypeError, match="predictions must be real numbers; got"):
            call(predictions, [0, 1])


@pytest.mark.parametrize("thresholds", [None, 200])
def test_a_refused_update_changes_nothing(thresholds):
    metric = AUROC(thresholds)
    metric.update(torch.tensor(PREDICTIONS), torch.tensor(LABELS))
    for predictions, labels, _ in (WRONG | NO_PROBABILITIES).values():
        with pytest.raises(ValueError):
            metric.update(torch.tensor(predictions), torch.tensor(labels))
    assert metric.compute() == pytest.approx(19 / 24, abs=1e-5)
