"""Runs of rows, cut out and put together."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recis_core.ragged import RaggedTensor


def made(lengths, inner=None, weighted=False):
    """Rows of these lengths; with `inner`, of lists of these lengths."""
    levels = [torch.tensor(np.cumsum([0, *each])) for each in ([lengths] if inner is None else [lengths, inner])]
    count = int(levels[-1][-1])
    weight = torch.arange(count, dtype=torch.float32) if weighted else None
    return RaggedTensor(torch.arange(count), levels, weight=weight)


def equal(a, b):
    return (
        torch.equal(a.values(), b.values())
        and all(torch.equal(x, y) for x, y in zip(a.offsets(), b.offsets(), strict=True))
        and ((a.weight() is None) == (b.weight() is None))
        and (a.weight() is None or torch.equal(a.weight(), b.weight()))
    )


@given(st.lists(st.integers(0, 3), max_size=8), st.data(), st.booleans(), st.booleans())
def test_any_cuts_put_together_are_the_whole(lengths, data, nested, weighted):
    inner = data.draw(st.lists(st.integers(0, 2), min_size=sum(lengths), max_size=sum(lengths))) if nested else None
    whole = made(lengths, inner, weighted)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(lengths)), max_size=4)))
    edges = [0, *cuts, len(lengths)]
    parts = [whole.rows(a, b) for a, b in itertools.pairwise(edges)]
    assert [len(part) for part in parts] == [b - a for a, b in itertools.pairwise(edges)]
    assert all(int(level[0]) == 0 for part in parts for level in part.offsets())
    assert equal(RaggedTensor.concatenated(parts), whole)
    assert equal(RaggedTensor.trusted(whole.values(), whole.offsets(), whole.weight()), whole)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match="as many levels each"):
        RaggedTensor.concatenated([made([1, 2]), made([1], [2])])
    with pytest.raises(ValueError, match="must all have weights, or none; got 1 of 2"):
        RaggedTensor.concatenated([made([1, 2]), made([1, 2], weighted=True)])
    with pytest.raises(ValueError, match="as many levels each"):
        RaggedTensor.concatenated([])
