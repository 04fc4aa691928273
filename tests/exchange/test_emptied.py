"""A batch without its rows keeps its form, so that a model takes it as it takes any other."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from recis_core.exchange import emptied, in_step
from recis_core.ragged import RaggedTensor

IDS, LABEL = torch.arange(5), torch.ones(3, 2, dtype=torch.float16)
LISTS = RaggedTensor(IDS, torch.tensor([0, 2, 2, 5]), weight=torch.rand(5))


class Named(NamedTuple):
    features: dict[str, object]
    label: Tensor


def test_every_form_stays() -> None:
    features = {"ids": IDS, "lists": LISTS}
    for batch in ((features, LABEL), [features, LABEL], Named(features, LABEL)):
        empty = emptied(batch)
        assert type(empty) is type(batch)
        found, label = empty
        assert label.shape == (0, 2)
        assert label.dtype == torch.float16
        assert found["ids"].shape == (0,)
        lists = found["lists"]
        assert [offsets.tolist() for offsets in lists.offsets()] == [[0]]
        assert lists.weight().shape == (0,)


def test_alone_all_batches_come_and_none_is_added() -> None:
    assert list(in_step([IDS, LABEL])) == [IDS, LABEL]


def test_what_has_no_rows_is_refused_with_the_way_out() -> None:
    with pytest.raises(TypeError, match=r"got str\. Pass empty="):
        emptied(("a",))
