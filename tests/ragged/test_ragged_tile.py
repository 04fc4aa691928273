"""ragged_tile, topk_index_cut_off and merge_offsets beside loops in Python and RecIS's numbers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recis_core.ragged import merge_offsets, ragged_tile, topk_index_cut_off
from tests.ragged.implementations import chosen, implementation, in_both  # noqa: F401

GROUPS = st.lists(
    st.tuples(st.lists(st.lists(st.integers(0, 4), max_size=5), max_size=4), st.integers(0, 6)), max_size=4
)


@pytest.mark.usefixtures("implementation")
def test_tiles_of_recis() -> None:
    table = torch.tensor([[0.0, 1], [2, 3]], requires_grad=True)
    found = ragged_tile([2, 1], [3, 4], torch.tensor([0, 1, 0, 0, 1]), torch.tensor([0, 2, 3, 4]), table)
    rows = [[0, 1], [2, 3], [0, 0], [0, 1], [0, 0], [0, 0], [0, 1], [0, 0], [0, 0], [0, 0]]
    assert found.tolist() == rows
    found.sum().backward()
    assert table.grad.tolist() == [[3, 3], [1, 1]]


@settings(max_examples=40, deadline=None)
@given(GROUPS)
def test_tiles_beside_loops_in_python(groups: list[tuple[list[list[int]], int]]) -> None:
    table = torch.arange(10.0).view(5, 2) + 1
    rows = [(row, length) for group, length in groups for row in group]
    expected = [table[row[k]].tolist() if k < len(row) else [0, 0] for row, length in rows for k in range(length)]
    arguments: Any = (
        [len(group) for group, _ in groups],
        [length for _, length in groups],
        torch.tensor([i for row, _ in rows for i in row], dtype=torch.int32),
        torch.tensor([0, *(len(row) for row, _ in rows)]).cumsum(0),
    )
    assert [found for *_, found in in_both(ragged_tile, *arguments, table)] == [expected] * 2


def test_gradients_of_tiles() -> None:
    indices, offsets = torch.tensor([0, 2, 2, 1, 2]), torch.tensor([0, 3, 3, 5])
    grads = []
    for name in ("numba", "torch"):
        with chosen(name):
            table = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
            assert torch.autograd.gradcheck(lambda t: ragged_tile([2, 1], [2, 3], indices, offsets, t), table)
            small = torch.ones(4, 3, dtype=torch.float16, requires_grad=True)
            ragged_tile([2, 1], [2, 3], indices, offsets, small).mul(0.1).sum().backward()
            grads.append(small.grad)
    assert torch.equal(*grads)
    assert grads[0].dtype == torch.float16


def test_tiles_that_do_not_fit() -> None:
    table, indices, offsets = torch.ones(2, 3), torch.tensor([0, 1]), torch.tensor([0, 1, 2])
    with pytest.raises(ValueError, match="batch and seq must be as many integers from 0 on each"):
        ragged_tile([2], [1, 2], indices, offsets, table)
    with pytest.raises(ValueError, match=r"offsets \[sum\(batch\) \+ 1\] = \[4\]; got \(2, 3\), \(2,\) and \(3,\)"):
        ragged_tile([3], [1], indices, offsets, table)
    with pytest.raises(ValueError, match=r"offsets must end at len\(indices\) = 2 or before; got offsets\[-1\] = 3"):
        ragged_tile([2], [1], indices, torch.tensor([0, 1, 3]), table)
    with pytest.raises(ValueError, match="offsets must not decrease"):
        ragged_tile([2], [1], indices, torch.tensor([0, 2, 1]), table)
    with pytest.raises(ValueError, match=r"indices must be from 0 to 1; got indices\[0\] = 5"):
        ragged_tile([2], [1], indices + 5, offsets, table)
    with pytest.raises(TypeError, match="table must be float32 or .*; got torch.int64"):
        ragged_tile([2], [1], indices, offsets, table.long())


@pytest.mark.usefixtures("implementation")
def test_top_k_of_recis() -> None:
    drop, none = torch.tensor([5, 0, 0]), torch.tensor([0, 0, 0])
    offsets, topk = torch.tensor([0, 8, 10, 13], dtype=torch.int32), torch.tensor([[1, 2], [0, 2], [0, 1]])
    places, new = topk_index_cut_off(offsets, topk, torch.tensor([0, 1, 2]), drop, none, True, False)
    assert (places.tolist(), new.tolist()) == ([6, 7, 8, 10, 11], [0, 2, 3, 5])
    columns = topk_index_cut_off(
        [offsets] * 2, [topk] * 2, [torch.tensor([0, 1, 2]), torch.tensor([2, 2, 0])], [drop] * 2
    )
    assert [[part.tolist() for part in found] for found in columns] == [
        [[6, 7, 8, 10, 11], [0, 2, 3, 5]],
        [[11, 12, 10, 12, 5, 6], [0, 2, 4, 6]],
    ]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.integers(0, 5), st.booleans(), st.booleans(), st.data())
def test_top_k_beside_lists(
    lengths: list[int], keep: int, drop_left: bool, pad_left: bool, data: st.DataObject
) -> None:
    """Rows cut to `keep` and padded, as lists of places; None is padding."""
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    places = [list(range(b, e)) for b, e in pairwise(offsets.tolist())]
    cut = [(row[max(0, len(row) - keep) :] if drop_left else row[:keep]) for row in places]
    padding = [[None] * (keep - len(row)) for row in cut]
    seen = [(pad + row if pad_left else row + pad) for row, pad in zip(cut, padding, strict=True)]
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=4))
    topk = data.draw(
        st.lists(st.lists(st.integers(-2, 7), min_size=3, max_size=3), min_size=len(rows), max_size=len(rows))
    )
    chosen_places = [
        [seen[r][k] for k in ks if 0 <= k < keep and seen[r][k] is not None] for r, ks in zip(rows, topk, strict=True)
    ]
    drops = torch.tensor([max(0, n - keep) for n in lengths])
    pads = torch.tensor([max(0, keep - n) for n in lengths])
    arguments = (
        offsets,
        torch.tensor(topk, dtype=torch.int64).view(-1, 3),
        torch.tensor(rows, dtype=torch.int64),
        drops,
        pads,
    )
    for (*_, found), (*_, new) in in_both(topk_index_cut_off, *arguments, drop_left, pad_left):
        assert found == [place for row in chosen_places for place in row]
        assert new == torch.tensor([0, *map(len, chosen_places)]).cumsum(0).tolist()


def test_top_k_that_does_not_fit() -> None:
    offsets, topk, one, none = torch.tensor([0, 2]), torch.tensor([[0]]), torch.tensor([0]), torch.tensor([0])
    with pytest.raises(ValueError, match="pad_nums must say how much each row was padded where pad_side is left"):
        topk_index_cut_off(offsets, topk, one, none, pad_side="left")
    with pytest.raises(ValueError, match="drop_side must be 'left' or 'right'"):
        topk_index_cut_off(offsets, topk, one, none, drop_side="up")
    with pytest.raises(ValueError, match=r"indicator must be from 0 to 0; got indicator\[0\] = 1"):
        topk_index_cut_off(offsets, topk, one + 1, none)
    with pytest.raises(ValueError, match=r"must be \[R \+ 1\], topk_index \[B, K\] and indicator \[B\]"):
        topk_index_cut_off(offsets, topk[0], one, none)
    with pytest.raises(ValueError, match=r"must have one entry a row, \(1,\); got \[\(2,\)\]"):
        topk_index_cut_off(offsets, topk, one, torch.tensor([0, 0]))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=5))
def test_merged_offsets_are_those_of_all_rows(columns: list[list[int]]) -> None:
    levels = [torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0).int() for lengths in columns]
    merged = merge_offsets(levels)
    assert merged.tolist() == torch.tensor([0, *(n for lengths in columns for n in lengths)]).cumsum(0).tolist()
    assert merged.dtype == torch.int64


def test_offsets_that_cannot_be_merged() -> None:
    assert merge_offsets([torch.tensor([0, 2, 5, 7]), torch.tensor([0, 3, 6])]).tolist() == [0, 2, 5, 7, 10, 13]
    for wrong, words in (([1, 2], "begin at 0"), ([0, 2, 1], "must not decrease"), ([], r"\[B \+ 1\]")):
        with pytest.raises(ValueError, match=words):
            merge_offsets([torch.tensor([0, 1]), torch.tensor(wrong, dtype=torch.int64)])
    with pytest.raises(TypeError, match="offsets must be int64 or int32; got torch.float32"):
        merge_offsets([torch.zeros(1)])
