"""Each comparison helper can fail."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recis_core.backends.records import Snapshot
from tests.contract.compare import PLACEMENT, assert_close, assert_same, assert_same_placement, assert_same_table


def _snapshot() -> Snapshot:
    four = torch.arange(4)
    placed = {name: four.to(torch.int32) for name in PLACEMENT}
    return Snapshot(weights=torch.ones(4, 2), slots={"m": torch.ones(4, 2)}, next_row=4, buckets=1, **placed)


def test_close_accepts_rounding() -> None:
    assert_close("x", torch.tensor([1.0, 2.000001]), np.array([1.0, 2.0]), torch.float32)


@pytest.mark.parametrize(
    ("got", "dtype"),
    [
        (torch.ones(2, 1), torch.float32),
        (torch.ones(2), torch.bfloat16),
        (torch.tensor([1.0, 1.001]), torch.float32),
        (torch.tensor([1.0, float("nan")]), torch.float32),
    ],
)
def test_close_fails(got: torch.Tensor, dtype: torch.dtype) -> None:
    with pytest.raises(AssertionError):
        assert_close("x", got, np.ones(2), dtype)


@pytest.mark.parametrize(
    "got", [torch.ones(1, 2), torch.ones(2).double(), torch.tensor([1.0, 1.0000001]), torch.tensor([1.0, -1.0])]
)
def test_same_fails(got: torch.Tensor) -> None:
    with pytest.raises(AssertionError):
        assert_same("x", got, torch.ones(2))


def test_same_tells_zero_from_minus_zero() -> None:
    with pytest.raises(AssertionError):
        assert_same("x", torch.tensor([0.0]), torch.tensor([-0.0]))


@pytest.mark.parametrize("name", [*PLACEMENT, "next_row", "buckets"])
def test_same_placement_fails(name: str) -> None:
    other = replace(_snapshot(), **{name: getattr(_snapshot(), name) + 1})
    with pytest.raises(AssertionError):
        assert_same_placement(other, _snapshot())


@pytest.mark.parametrize("name", ["weights", "slots"])
def test_same_table_fails(name: str) -> None:
    changed = {"weights": torch.zeros(4, 2), "slots": {"m": torch.zeros(4, 2)}}[name]
    with pytest.raises(AssertionError):
        assert_same_table(replace(_snapshot(), **{name: changed}), _snapshot())


def test_same_table_accepts_itself() -> None:
    assert_same_table(_snapshot(), _snapshot())
