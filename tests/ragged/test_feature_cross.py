"""feature_cross beside loops in Python, with the numbers of RecIS."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recis_core.hashing import murmur_pairs
from recis_core.ragged import RaggedTensor, feature_cross
from tests.ragged.implementations import implementation, in_both  # noqa: F401

Rows = list[list[tuple[int, float]]]
ROWS = st.lists(st.lists(st.tuples(st.integers(-3, 3), st.floats(-4, 4, width=32)), max_size=6), max_size=5)


def column(rows: Rows, weighted: bool = True, dtype: torch.dtype = torch.float32) -> RaggedTensor:
    flat = [pair for row in rows for pair in row]
    offsets = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
    weight = torch.tensor([w for _, w in flat], dtype=dtype) if weighted else None
    return RaggedTensor(torch.tensor([id_ for id_, _ in flat], dtype=torch.int64), offsets, weight)


def crossed(x: Rows, y: Rows) -> list[dict[tuple[int, int], float]]:
    firsts = [[dict(reversed(row)) for row in rows] for rows in (x, y)]
    orders = [[dict.fromkeys(id_ for id_, _ in row) for row in rows] for rows in (x, y)]
    return [
        {(a, b): wx[a] * wy[b] for a in of_x for b in of_y} for wx, wy, of_x, of_y in zip(*firsts, *orders, strict=True)
    ]


def expected_of(rows: list[dict[tuple[int, int], float]]) -> Any:
    pairs = [pair for row in rows for pair in row]
    xs, ys = (torch.tensor([pair[k] for pair in pairs], dtype=torch.int64) for k in (0, 1))
    offsets = torch.tensor([0, *map(len, rows)]).cumsum(0).tolist()
    return murmur_pairs(xs, ys).tolist(), offsets, [w for row in rows for w in row.values()]


@pytest.mark.usefixtures("implementation")
def test_the_numbers_of_recis() -> None:
    x = RaggedTensor(torch.tensor([1001, 1002, 1003]), torch.tensor([0, 1, 2, 3]))
    y = RaggedTensor(torch.tensor([1, 2, 3]), torch.tensor([0, 1, 2, 3]))
    found = feature_cross(x, y)
    assert found.values().tolist() == [-7808879811642834040, -4967483181219983279, 1752425377096056168]
    assert found.offsets()[0].tolist() == [0, 1, 2, 3]
    assert found.weight().tolist() == [1.0, 1.0, 1.0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(ROWS, ROWS), max_size=4))
def test_beside_loops_in_python(pairs: list[tuple[Rows, Rows]]) -> None:
    pairs = [(x[: min(len(x), len(y))], y[: min(len(x), len(y))]) for x, y in pairs]
    expected = [expected_of(crossed(x, y)) for x, y in pairs]
    xs, ys = ([column(pair[k], dtype=torch.float64) for pair in pairs] for k in (0, 1))
    for fused in in_both(feature_cross, xs, ys):
        assert [(v, o, w) for (_, _, v), [o], w in fused] == expected
    for x, y, wanted in zip(xs, ys, expected, strict=True):
        for (_, _, values), [offsets], weights in in_both(feature_cross, x, y):
            assert (values, offsets, weights) == wanted


def test_long_rows_and_rows_of_many_threads() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([0, 17, 200, 1, *[1] * 3000, 64])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    ids = torch.randint(-40, 40, (int(offsets[-1]),), generator=generator)
    x, y = RaggedTensor(ids, offsets, torch.rand(len(ids), generator=generator)), RaggedTensor(ids.flip(0) % 7, offsets)
    loops, plain = in_both(feature_cross, x, y)
    assert loops == plain
    rows = [list(zip(ids[b:e].tolist(), x.weight()[b:e].tolist(), strict=True)) for b, e in pairwise(offsets.tolist())]
    others = [[(id_, 1.0) for id_ in y.values()[b:e].tolist()] for b, e in pairwise(offsets.tolist())]
    assert (loops[0][2], loops[1][0], loops[2]) == expected_of(crossed(rows, others))


@pytest.mark.usefixtures("implementation")
def test_weights_of_one_side_alone() -> None:
    x, y = column([[(1, 2.0), (1, 5.0), (2, 3.0)]]), column([[(7, 9.0), (8, 9.0)]], weighted=False)
    assert feature_cross(x, y).weight().tolist() == [2, 2, 3, 3]
    assert feature_cross(y, x).weight().tolist() == [2, 3, 2, 3]


@pytest.mark.usefixtures("implementation")
def test_gradients_flow_to_the_first_weights() -> None:
    x, y = column([[(1, 2.0), (1, 5.0)]]), column([[(7, 3.0), (8, 4.0)]])
    for side in (x, y):
        side.weight().requires_grad_()
    feature_cross(x, y).weight().sum().backward()
    assert (x.weight().grad.tolist(), y.weight().grad.tolist()) == ([7, 0], [2, 2])


@pytest.mark.usefixtures("implementation")
def test_outer_levels_and_dense_columns() -> None:
    inner = torch.tensor([0, 1, 3])
    x = RaggedTensor(torch.tensor([1, 2, 3]), [torch.tensor([0, 2]), inner], dense_shape=(1, 2, 2))
    y = RaggedTensor(torch.tensor([5, 6, 6]), inner, dense_shape=(2, 2))
    found = feature_cross(x, y)
    assert [level.tolist() for level in found.offsets()] == [[0, 2], [0, 1, 3]]
    assert found.shape == (1, 2, 4)
    dense = feature_cross(torch.tensor([1, 2]), torch.tensor([[3, 4], [5, 5]]))
    assert dense.offsets()[0].tolist() == [0, 2, 3]
    assert dense.values().tolist() == murmur_pairs(torch.tensor([1, 1, 2]), torch.tensor([3, 4, 5])).tolist()
    assert feature_cross([], []) == []


def test_what_is_refused() -> None:
    x = torch.tensor([1, 2])
    with pytest.raises(ValueError, match="x and y must have equal numbers of rows; got 2 and 1"):
        feature_cross(x, x[:1])
    with pytest.raises(TypeError, match="ids of y must be int64; got torch.float32"):
        feature_cross(x, x.float())
    with pytest.raises(TypeError, match="x must be a RaggedTensor or a tensor, or a list of them; got int"):
        feature_cross(1, x)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="y must have as many columns as x = 2; got 1"):
        feature_cross([x, x], [x])
    with pytest.raises(ValueError, match=r"x must be \[B\] or \[B, L\]; got shape \(1, 1, 2\)"):
        feature_cross(x[None, None], x)
