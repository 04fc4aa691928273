"""bench features: every way of every case gives the answer that it is timed for."""

from __future__ import annotations

import numpy as np
import pytest

from recis_core.bench.features import click_log, ops
from recis_core.bench.features.case import LOOPS, Case, check, timed


def test_all_ways_agree() -> None:
    found = [*ops.cases(300, 0), click_log.case(click_log.synthetic(300, 0), "a log", 128)]
    assert len(found) == 16
    for case in found:
        check(case)
        assert case.bytes > 0
        assert len(case.run) >= 3


def test_another_answer_is_refused() -> None:
    case = Case("x", 3, 24, {LOOPS: lambda: np.arange(3), "peer": lambda: np.arange(3) + 1})
    with pytest.raises(ValueError, match="x: peer gives another answer than recis loops"):
        check(case)
    check(Case("x", 3, 24, case.run, frozenset({"peer"})))
    short = {**case.run, "peer": lambda: np.arange(2)}
    with pytest.raises(ValueError, match="another answer"):
        check(Case("x", 3, 24, short, frozenset({"peer"})))


def test_a_row_for_each_way() -> None:
    rows = timed(Case("x", 1000, 8000, {LOOPS: lambda: 1, "peer": lambda: 1}), 3)
    assert [row["name"] for row in rows] == [LOOPS, "peer"]
    assert rows[1]["speedup"] == 1
