"""Progress in words: what stays where a line is short."""

import pytest

from recis_core.hooks.progress_line import Part, clock, evaluation_line, fitted, number, step_line, step_parts
from recis_core.hooks.step_sums import LoggedSteps

LOGGED = LoggedSteps(50, 10, 640, {"loss": 0.5, "loss/ctr": 0.25}, {"auc": 0.75}, 1234.6, 2.0)


def test_parts_that_fit():
    parts = [Part(2, "bb"), Part(1, "aaaa"), Part(3, "c")]
    assert fitted(parts, 100) == "bb  aaaa  c"
    assert fitted(parts, 8) == "bb  aaaa"
    assert fitted(parts, 7) == "aaaa"
    assert fitted(parts, 3) == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (59.6, "0:01:00"), (3 * 86_400 + 14_706, "3 d 4:05:06"), (36_000, "10:00:00")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.0000"), (0.69314, "0.6931"), (1e-5, "1e-05"), (2.5e7, "2.5e+07"), (float("nan"), "nan")],
)
def test_number(value, text):
    assert number(value) == text


def test_lines():
    assert step_line(LOGGED) == "step 50  loss 0.5000  loss/ctr 0.2500  auc 0.7500  1,235 rows/s"
    assert evaluation_line({"auc": 0.5}) == "evaluation  auc 0.5000"


def test_a_narrow_line_keeps_rate_and_loss():
    parts = step_parts(LOGGED, 3650)
    assert fitted(parts, 200) == "step 50/3,650  1,235 rows/s  loss 0.5000  loss/ctr 0.2500  auc 0.7500  left 0:30:00"
    assert fitted(parts, 30) == "1,235 rows/s  loss 0.5000"
    assert "left" not in fitted(step_parts(LOGGED, None), 200)
