"""ragged_to_dense and dense_to_ragged, with RecIS's numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recis_core.ragged import RaggedTensor, dense_to_ragged, ragged_to_dense

DENSE = torch.tensor([[1, 0, 3, 0, 0], [6, 7, 8, 0, 0]])


def test_checked_strips_the_trailing_run():
    values, offsets = dense_to_ragged(DENSE, True, 0)
    assert values.tolist() == [1, 0, 3, 6, 7, 8]
    assert [level.tolist() for level in offsets] == [[0, 3, 6]]


def test_unchecked_keeps_all():
    values, offsets = dense_to_ragged(DENSE, False, 0)
    assert values.tolist() == DENSE.flatten().tolist()
    assert [level.tolist() for level in offsets] == [[0, 5, 10]]


def test_round_trip_keeps_the_rectangle():
    ragged = RaggedTensor.from_dense(DENSE, check_invalid=True, invalid_value=0)
    assert ragged.shape == (2, 5)
    assert torch.equal(ragged.to_dense(0), DENSE)


def test_nan_can_be_padding():
    values, offsets = dense_to_ragged(torch.tensor([[1.0, float("nan")], [float("nan")] * 2]), True, float("nan"))
    assert (values.tolist(), offsets[0].tolist()) == ([1.0], [0, 1, 1])


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 0, 3), (2, 3, 0)])
@pytest.mark.parametrize("check", [False, True])
def test_empty_rectangles(shape, check):
    ragged = RaggedTensor.from_dense(torch.zeros(shape), check_invalid=check)
    assert ragged.to_dense().shape == shape


def test_one_dimension_is_refused():
    with pytest.raises(ValueError, match=r"2 to 6 dimensions, rows first; got shape \(3,\)"):
        dense_to_ragged(torch.arange(3))


def test_values_get_gradients():
    values = torch.arange(1.0, 5, dtype=torch.float64, requires_grad=True)
    offsets = torch.tensor([0, 3, 3, 4])
    assert torch.autograd.gradcheck(lambda v: ragged_to_dense(v, offsets, -1), (values,))
    dense = torch.tensor([[1.0, 2, 0], [3, 0, 0]], dtype=torch.float64, requires_grad=True)
    dense_to_ragged(dense, True, 0)[0].sum().backward()
    assert dense.grad.tolist() == [[1, 1, 0], [1, 0, 0]]


def test_five_levels():
    levels = [torch.tensor([0, 1, 2]) for _ in range(4)] + [torch.tensor([0, 2, 3])]
    assert ragged_to_dense(torch.tensor([1, 2, 3]), levels, 9).shape == (2, 1, 1, 1, 1, 2)
    with pytest.raises(ValueError, match="1 to 5 levels, outer to inner; got 6"):
        ragged_to_dense(torch.tensor([1, 2, 3]), [torch.tensor([0, 1, 2]), *levels], 9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 4), st.integers(0, 3), st.integers(0, 4), st.integers(0, 2**31 - 1), st.booleans())
def test_round_trip_of_any_rectangle(b, k, n, seed, check):
    dense = torch.randint(0, 2, (b, k, n), generator=torch.Generator().manual_seed(seed))
    assert torch.equal(RaggedTensor.from_dense(dense, check_invalid=check).to_dense(0), dense)
