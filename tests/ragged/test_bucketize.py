"""bucketize beside counting, with the numbers of RecIS."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recis_core.ragged import RaggedTensor, bucketize
from tests.ragged.implementations import implementation, in_both  # noqa: F401

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
NUMBERS = st.floats(width=32, allow_nan=False)


@pytest.mark.usefixtures("implementation")
def test_the_numbers_of_recis() -> None:
    assert bucketize(torch.tensor([0.5, 10, 11.6]), [0, 100, 200]).tolist() == [1, 1, 1]
    assert bucketize(torch.tensor([-1.0, 0, 99, 100, 200, 201]), [0, 100, 200]).tolist() == [0, 1, 1, 2, 3, 3]
    assert bucketize(torch.tensor([1.0]), [0.5]).dtype == torch.int64


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(NUMBERS, max_size=9), st.lists(NUMBERS, max_size=9), st.sampled_from(FLOATS)), max_size=5
    )
)
def test_as_torch_and_as_many_columns_as_one(columns: list[tuple[list[float], list[float], torch.dtype]]) -> None:
    values = [torch.tensor(part, dtype=torch.float64).to(dtype) for part, _, dtype in columns]
    bounds = [sorted(edges) for _, edges, _ in columns]
    expected = [
        torch.bucketize(part.double(), torch.tensor(edges, dtype=torch.float32).to(part.dtype).double(), right=True)
        for part, edges in zip(values, bounds, strict=True)
    ]
    for fused in in_both(bucketize, values, bounds):
        assert [found for *_, found in fused] == [found.tolist() for found in expected]
    for part, edges, found in zip(values, bounds, expected, strict=True):
        for *_, apart in in_both(bucketize, part, torch.tensor(edges, dtype=torch.float32)):
            assert apart == found.tolist()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(INTEGERS), st.data())
def test_integers_are_compared_exactly(dtype: torch.dtype, data: st.DataObject) -> None:
    limits = torch.iinfo(dtype)
    values = data.draw(st.lists(st.integers(limits.min, limits.max), max_size=9))
    edges = sorted(data.draw(st.lists(st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False), max_size=9)))
    whole = all(isinstance(edge, int) for edge in edges)
    exact = edges if whole else [float(edge) for edge in edges]
    expected = [sum(edge <= value for edge in exact) for value in values]
    column = torch.tensor(values, dtype=dtype)
    for *_, found in in_both(bucketize, column, edges):
        assert found == expected
    for *_, found in in_both(bucketize, column, torch.tensor(exact, dtype=torch.int64 if whole else torch.float64)):
        assert found == expected


@pytest.mark.usefixtures("implementation")
def test_corners() -> None:
    inf, nan = math.inf, math.nan
    assert bucketize(torch.tensor([nan, inf, -inf, 0.0]), [-inf, 0, inf]).tolist() == [3, 3, 1, 2]
    assert bucketize(torch.tensor([2**63 - 1, -(2**63)]), [-inf, 2.0**63]).tolist() == [1, 1]
    assert bucketize(torch.tensor([5.0]), []).tolist() == [0]
    assert bucketize(torch.zeros(0, 3), [1]).shape == (0, 3)
    assert bucketize([], []) == []


@pytest.mark.usefixtures("implementation")
def test_rows_and_weights_stay_and_nothing_changes() -> None:
    values, weight = torch.tensor([1.5, -1, 7]), torch.ones(3)
    ragged = RaggedTensor(values, torch.tensor([0, 2, 3]), weight, (2, 4))
    found = bucketize(ragged, [0.0, 5.0])
    assert (found.values().tolist(), found.offsets()[0].tolist(), found.shape) == ([1, 0, 2], [0, 2, 3], (2, 4))
    assert found.weight() is weight
    assert ragged.values() is values
    assert values.tolist() == [1.5, -1, 7]


def test_what_is_refused() -> None:
    x = torch.tensor([1.0])
    for wrong in ([2.0, 1.0], [math.nan], torch.tensor([3, 2])):
        with pytest.raises(ValueError, match="boundaries must not decrease and have no NaN; got"):
            bucketize(x, wrong)
    with pytest.raises(ValueError, match=r"boundaries must be numbers \[K\]; got torch.float32 of shape \(1, 1\)"):
        bucketize(x, x[None])
    with pytest.raises(ValueError, match="boundaries must be as many as columns of values = 2; got 1"):
        bucketize([x, x], [[1.0]])
    with pytest.raises(TypeError, match="values must be float32 or .*; got torch.bool"):
        bucketize(x > 0, [1.0])
