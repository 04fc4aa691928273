"""segment_sum and segment_mean beside float64 loops and RecIS's numbers, with their gradients."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recis_core.ragged import segment_mean, segment_sum
from tests.ragged.implementations import chosen, implementation, in_both  # noqa: F401

OPS = (segment_sum, segment_mean)


def recis() -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    data = torch.tensor([[1.0, 1], [2, 2], [3, 3]], requires_grad=True)
    weight = torch.tensor([2.0, 3, 0.5, 1], requires_grad=True)
    return data, weight, torch.tensor([2, 0, 1, 0]), torch.tensor([0, 1, 1, 2]), 4


@pytest.mark.usefixtures("implementation")
def test_the_numbers_of_recis() -> None:
    for op, out, grad in (
        (segment_sum, [6, 4, 1, 0], [4, 0.5, 2]),
        (segment_mean, [3, 4 / 3.5, 1, 0], [1 + 3 / 3.5, 0.5 / 3.5, 1]),
    ):
        case = recis()
        found = op(*case)
        assert torch.allclose(found, torch.tensor(out)[:, None].expand(4, 2).float())
        found.sum().backward()
        assert torch.allclose(case[0].grad, torch.tensor(grad)[:, None].expand(3, 2).float())


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("weighted", [True, False])
def test_gradients(op: Any, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(4, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.rand(9, dtype=torch.float64, generator=generator).add(0.5).requires_grad_() if weighted else None
    indices, segments = torch.randint(4, (9,), generator=generator), torch.randint(5, (9,), generator=generator)
    assert torch.autograd.gradcheck(lambda d, w: op(d, w, indices, segments, 6), (data, weight))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(-8, 8)), max_size=150),
    st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
    st.integers(0, 3),
)
def test_beside_exact_sums(occurrences: list[tuple[int, int, int]], dtype: torch.dtype, dim: int) -> None:
    data = torch.arange(5 * dim, dtype=torch.float64).view(5, dim).sub(7).to(dtype)
    indices, segments, scales = (torch.tensor([o[k] for o in occurrences], dtype=torch.int64) for k in (0, 1, 2))
    expected = [
        [sum((w * Fraction(float(data[i, d])) for i, s, w in occurrences if s == at), Fraction()) for d in range(dim)]
        for at in range(4)
    ]
    totals = [sum(w for _, s, w in occurrences if s == at) for at in range(4)]
    arguments = (data, scales.to(dtype), indices, segments, 4)
    for _, shape, found in in_both(segment_sum, *arguments):
        assert shape == (4, dim)
        assert found == torch.tensor([[float(v) for v in row] for row in expected]).view(4, dim).to(dtype).tolist()
    means = [[float(v / total) if total else 0.0 for v in row] for row, total in zip(expected, totals, strict=True)]
    loops, plain = in_both(segment_mean, *arguments)
    assert loops == plain
    assert torch.allclose(torch.tensor(loops[2]).view(4, dim), torch.tensor(means).view(4, dim), rtol=2e-2, atol=1e-6)


def test_loops_and_torch_have_equal_bits_in_values_and_gradients() -> None:
    """Segments of 0 to 3,000 occurrences: more chunks than one chunk holds."""
    generator = torch.Generator().manual_seed(1)
    counts = torch.tensor([0, 1, 31, 32, 33, 1023, 1024, 1025, 3000, *[2] * 100])
    segments = torch.repeat_interleave(torch.arange(len(counts)), counts)
    segments = segments[torch.randperm(len(segments), generator=generator)]
    indices = (torch.rand(len(segments), generator=generator) ** 4 * 50).long()
    table = torch.randn(50, 5, generator=generator) * 10 ** torch.randn(50, 1, generator=generator)
    weights, grad = torch.rand(len(segments), generator=generator), torch.randn(len(counts), 5, generator=generator)
    for op in OPS:
        for weight in (None, weights):
            made = [_with_gradients(op, name, table, weight, indices, segments, grad) for name in ("numba", "torch")]
            assert all(torch.equal(a, b) for a, b in zip(*made, strict=True)), op
    exact = torch.zeros(len(counts), 5, dtype=torch.float64).index_add_(0, segments, table.double()[indices])
    assert torch.allclose(
        segment_sum(table, None, indices, segments, len(counts)).double(), exact, rtol=1e-5, atol=1e-4
    )


def _with_gradients(
    op: Any, name: str, table: Tensor, weight: Tensor | None, indices: Tensor, segments: Tensor, grad: Tensor
) -> list[Tensor]:
    data = table.clone().requires_grad_()
    weight = None if weight is None else weight.clone().requires_grad_()
    with chosen(name):
        out = op(data, weight, indices, segments, len(grad))
        out.backward(grad)
    return [out.detach(), data.grad, *([] if weight is None else [weight.grad])]


@pytest.mark.usefixtures("implementation")
def test_nothing_to_divide_by() -> None:
    data, weight = torch.ones(1, 2, requires_grad=True), torch.tensor([2.0, -2, 0], requires_grad=True)
    found = segment_mean(data, weight, torch.tensor([0, 0, 0]), torch.tensor([0, 0, 1]), 3)
    found.sum().backward()
    assert found.tolist() == [[0, 0]] * 3
    assert (data.grad.tolist(), weight.grad.tolist()) == ([[0, 0]], [0, 0, 0])
    lost = segment_sum(torch.tensor([[math.nan], [1.0]]), None, torch.tensor([0, 1]), torch.tensor([0, 1]), 2)
    assert lost.isnan().tolist() == [[True], [False]]
    nan = segment_mean(torch.ones(1, 1), torch.tensor([math.nan]), torch.tensor([0]), torch.tensor([0]), 1)
    assert nan.isnan().all()


@pytest.mark.usefixtures("implementation")
def test_inputs_stay() -> None:
    case = recis()
    before = [tensor.detach().clone() for tensor in case[:4]]
    segment_mean(*case).sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(case[:4], before, strict=True))
    turned = case[0].detach().t().contiguous().t()
    assert torch.equal(segment_sum(turned, *case[1:]), segment_sum(*case))


def test_what_is_refused() -> None:
    data, weight, indices, segments, S = recis()
    call = partial(segment_sum, data.detach(), weight.detach())
    with pytest.raises(ValueError, match=r"segment_ids must be from 0 to 1; got segment_ids\[3\] = 2"):
        call(indices, segments, 2)
    with pytest.raises(ValueError, match=r"indices must be from 0 to 2; got indices\[0\] = -1"):
        call(indices - 3, segments, S)
    with pytest.raises(
        ValueError, match=r"must be \[V, D\], indices, segment_ids and weight \[N\]; got \(3, 2\), \(3,\)"
    ):
        call(indices[1:], segments, S)
    with pytest.raises(ValueError, match="num_segments must be an integer from 0 on; got -1"):
        call(indices, segments, -1)
    with pytest.raises(TypeError, match="indices must be integers; got torch.float32"):
        call(indices.float(), segments, S)
    with pytest.raises(TypeError, match="data and weight must be floating; got torch.int64"):
        segment_sum(data.long(), None, indices, segments, S)
