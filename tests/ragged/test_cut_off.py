"""cut_off_2d and cut_off_3d beside slices of Python's lists, with the numbers of RecIS."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recis_core.ragged import RaggedTensor, cut_off_2d, cut_off_3d
from tests.ragged.implementations import implementation, in_both  # noqa: F401

ROWS = st.lists(st.lists(st.integers(-9, 9), max_size=5), max_size=5)
DEEP = st.lists(ROWS, max_size=4)
SETTINGS = st.tuples(st.integers(0, 6), st.sampled_from(["left", "right"]), st.sampled_from(["left", "right"]))
CUT = st.tuples(ROWS, SETTINGS)


def running(lengths: Any) -> list[int]:
    return torch.tensor([0, *lengths], dtype=torch.int64).cumsum(0).tolist()


def ragged(rows: list[list[int]]) -> RaggedTensor:
    values = torch.tensor([v for row in rows for v in row], dtype=torch.int64)
    return RaggedTensor(values, torch.tensor(running(map(len, rows))), values.float() / 8)


def deep(users: list[list[list[int]]]) -> RaggedTensor:
    inner = ragged([row for user in users for row in user])
    outer = torch.tensor(running(map(len, users)))
    return RaggedTensor(inner.values(), [outer, *inner.offsets()], inner.weight())


def shortened(row: list[Any], keep: int, drop: str) -> list[Any]:
    return row[:keep] if drop == "right" else row[max(0, len(row) - keep) :]


def filled(row: list[Any], keep: int, drop: str, pad: str) -> list[Any]:
    row = shortened(row, keep, drop)
    empty = [[] for _ in range(keep - len(row))]
    return row + empty if pad == "right" else empty + row


def seen(column: RaggedTensor) -> Any:
    return (column.values().tolist(), [level.tolist() for level in column.offsets()], column.weight().tolist())


@settings(max_examples=40, deadline=None)
@given(st.lists(CUT, max_size=4))
def test_2d_beside_slices(columns: list[tuple[list[list[int]], tuple[int, str, str]]]) -> None:
    expected = [seen(ragged([shortened(row, keep, drop) for row in rows])) for rows, (keep, drop, _) in columns]
    _check(cut_off_2d, [ragged(rows) for rows, _ in columns], [how for _, how in columns], expected)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(DEEP, SETTINGS), max_size=4))
def test_3d_beside_slices(columns: list[tuple[list[list[list[int]]], tuple[int, str, str]]]) -> None:
    expected = [seen(deep([filled(user, *how) for user in users])) for users, how in columns]
    _check(cut_off_3d, [deep(users) for users, _ in columns], [how for _, how in columns], expected)


def _check(op: Any, columns: list[RaggedTensor], hows: list[tuple[int, str, str]], expected: list[Any]) -> None:
    before = [seen(column) for column in columns]
    many = [list(found) for found in zip(*hows, strict=True)] if hows else [[], [], []]
    for fused in in_both(op, columns, *many):
        assert [(values, offsets, weights) for (*_, values), offsets, weights in fused] == expected
    for column, how, wanted in zip(columns, hows, expected, strict=True):
        for (*_, values), offsets, weights in in_both(op, column, *how):
            assert (values, offsets, weights) == wanted
    assert [seen(column) for column in columns] == before


@pytest.mark.usefixtures("implementation")
def test_the_numbers_of_recis() -> None:
    rows = [[9, 11, 12], [20, 21], [30, 31, 32, 33]]
    found = cut_off_2d(ragged(rows), 3, "left", "left")
    assert found.values().tolist() == [9, 11, 12, 20, 21, 31, 32, 33]
    assert found.shape == (3, 3)
    info = found.pad_info
    assert ([n.tolist() for n in info.drop_nums], [n.tolist() for n in info.pad_nums]) == ([[0, 0, 1]], [[0, 1, 0]])
    assert (info.drop_sides.tolist(), info.pad_sides.tolist()) == ([True], [True])
    users = [[[10], [11, 12, 13], []], [[14, 15, 16, 17]], [[], [18, 19]]]
    found = cut_off_3d(deep(users), 2, True, True)
    assert seen(found)[:2] == ([*range(11, 20)], [[0, 2, 4, 6], [0, 3, 3, 3, 7, 7, 9]])
    assert found.shape == (3, 2, 4)


@pytest.mark.usefixtures("implementation")
def test_values_of_any_kind_with_gradients() -> None:
    vectors = torch.arange(8.0).view(4, 2).requires_grad_()
    weight = torch.ones(4, requires_grad=True)
    found = cut_off_2d(RaggedTensor(vectors, torch.tensor([0, 3, 4]), weight), 2)
    (found.values().sum() + found.weight().sum()).backward()
    assert vectors.grad.tolist() == [[1, 1], [1, 1], [0, 0], [1, 1]]
    assert weight.grad.tolist() == [1, 1, 0, 1]
    assert cut_off_2d(RaggedTensor(torch.zeros(0), torch.tensor([0])), 5).shape == (0, 5)
    assert seen(cut_off_3d(deep([]), 3)) == ([], [[0], [0]], [])
    assert seen(cut_off_3d(deep([[], []]), 1)) == ([], [[0, 1, 2], [0, 0, 0]], [])
    assert cut_off_2d([], [], [], []) == []


@pytest.mark.usefixtures("implementation")
def test_only_the_last_levels_are_cut() -> None:
    level = torch.tensor([0, 1, 2])
    column = RaggedTensor(torch.tensor([1, 2, 3, 4]), [level, level, torch.tensor([0, 3, 4])])
    assert [o.tolist() for o in cut_off_2d(column, 1).offsets()] == [[0, 1, 2], [0, 1, 2], [0, 1, 2]]
    assert [o.tolist() for o in cut_off_3d(column, 2).offsets()] == [[0, 1, 2], [0, 2, 4], [0, 3, 3, 4, 4]]


def test_what_is_refused() -> None:
    x = ragged([[1, 2], [3]])
    for side in ("top", None, 2):
        with pytest.raises(ValueError, match="drop_sides must be 'left' or 'right', or a bool, True for left; got"):
            cut_off_2d(x, 1, side)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="pad_sides must be"):
        cut_off_3d(deep([]), 1, "left", "up")
    for keep in (-1, 1.5, True):
        with pytest.raises(ValueError, match="keep_lengths must be integers from 0 on; got"):
            cut_off_2d(x, keep)  # type: ignore[call-overload]
    with pytest.raises(
        ValueError, match="keep_lengths must be one for all columns, or a list of 2, one a column; got 3"
    ):
        cut_off_2d([x, x], [1, 2, 3])
    with pytest.raises(ValueError, match="must have two levels of offsets"):
        cut_off_3d(x, 1)
    with pytest.raises(TypeError, match="x must be a RaggedTensor, or a list of them; got Tensor"):
        cut_off_2d(x.values(), 1)  # type: ignore[call-overload]
