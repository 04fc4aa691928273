"""When to save and what to keep."""

from __future__ import annotations

import math

import pytest

from recis_core.serialize import AtEnd, EveryMinutes, EverySteps, KeepBest, KeepEvery, KeepLast
from recis_core.serialize.checkpoint.policies import Moment


def test_when_to_save() -> None:
    policy = EverySteps(10) | EveryMinutes(5) | AtEnd()
    assert policy.reads_clock
    assert not (EverySteps(10) | AtEnd()).reads_clock
    assert policy.due(Moment(20, 10, 0))
    assert not policy.due(Moment(21, 20, 4.9))
    assert policy.due(Moment(21, 20, 5.0))
    assert policy.due(Moment(21, 20, 0, ending=True))
    assert not policy.due(Moment(20, 20, 9, ending=True))
    assert (EverySteps(10) | EverySteps(3)) == (EverySteps(10) | EverySteps(3))


def test_what_to_keep() -> None:
    steps = [5, 10, 15, 20, 25]
    metrics = {5: {"auc": 0.9, "loss": 3.0}, 10: {"auc": math.nan}, 15: {"auc": 0.9, "loss": 1.0}, 25: {"loss": 2.0}}
    assert KeepLast(2).kept(steps, metrics) == {20, 25}
    assert KeepLast(9).kept(steps, metrics) == set(steps)
    assert KeepEvery(10).kept(steps, metrics) == {10, 20}
    assert KeepBest("auc").kept(steps, metrics) == {15}
    assert KeepBest("loss", 2, mode="min").kept(steps, metrics) == {15, 25}
    assert KeepBest("gauc").kept(steps, metrics) == set()
    assert (KeepLast(1) | KeepEvery(10) | KeepBest("auc", 2)).kept(steps, metrics) == {25, 10, 20, 15, 5}


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True, "3"])
def test_numbers_that_count_nothing(wrong: object) -> None:
    for policy in (EverySteps, KeepLast, KeepEvery, lambda n: KeepBest("auc", n)):
        with pytest.raises(ValueError, match="at least 1"):
            policy(wrong)


def test_what_does_not_compose() -> None:
    with pytest.raises(TypeError, match="another one"):
        EverySteps(1) | KeepLast(1)
    with pytest.raises(TypeError, match="another one"):
        KeepLast(1) | 3
    with pytest.raises(ValueError, match="positive number of minutes"):
        EveryMinutes(0)
    with pytest.raises(ValueError, match='"max" or "min"'):
        KeepBest("auc", 1, mode="most")
