"""Methods of jagged and keyed tensors, beside TorchRec's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchrec as theirs

import recis_core.compat.torchrec as ours
from tests.compat.torchrec.beside.configurations import configuration


def parts(kjt: Any) -> list[Any]:
    weights = kjt.weights_or_none()
    return [
        kjt.keys(), kjt.values().tolist(), None if weights is None else weights.tolist(), kjt.lengths().tolist(),
        kjt.offsets().tolist(), kjt.stride(), kjt.stride_per_key(), kjt.length_per_key(), kjt.offset_per_key(),
        kjt.lengths_offset_per_key(), [kjt[key].values().tolist() for key in list(kjt.keys())],
        [jagged.offsets().tolist() for jagged in kjt.to_dict().values()],
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_keyed_jagged(seed: int) -> None:
    given = configuration(seed).batch(seed)
    mine, other = [framework.KeyedJaggedTensor.from_lengths_sync(**given) for framework in (ours, theirs)]
    assert parts(mine) == parts(other)
    order = torch.randperm(len(given["keys"]), generator=torch.Generator().manual_seed(seed)).tolist()
    assert parts(mine.permute(order)) == parts(other.permute(order))
    cut = seed % len(given["keys"])
    for one, two in zip(mine.split([cut, len(order) - cut]), other.split([cut, len(order) - cut]), strict=True):
        assert parts(one)[:4] == parts(two)[:4]
    assert parts(ours.KeyedJaggedTensor.from_jt_dict(mine.to_dict())) == parts(
        theirs.KeyedJaggedTensor.from_jt_dict(other.to_dict())
    )
    assert parts(ours.KeyedJaggedTensor.concat([mine, mine])) == parts(theirs.KeyedJaggedTensor.concat([other, other]))
    offsets = {**{k: v for k, v in given.items() if k != "lengths"}, "offsets": other.offsets()}
    assert parts(ours.KeyedJaggedTensor.from_offsets_sync(**offsets)) == parts(other)
    assert parts(mine.to(torch.device("cpu"))) == parts(other)


@pytest.mark.parametrize("seed", range(20))
def test_jagged(seed: int) -> None:
    given = configuration(seed).batch(seed)
    key = given["keys"][0]
    mine, other = [framework.KeyedJaggedTensor.from_lengths_sync(**given)[key] for framework in (ours, theirs)]
    assert [bag.tolist() for bag in mine.to_dense()] == [bag.tolist() for bag in other.to_dense()]
    for length in (None, 1, 3):
        assert torch.equal(mine.to_padded_dense(length, -1.0), other.to_padded_dense(length, -1.0))
    vectors = torch.randn(len(given["values"]), 3)[: len(mine.values())]
    padded = [
        framework.JaggedTensor(vectors, lengths=mine.lengths()).to_padded_dense(2) for framework in (ours, theirs)
    ]
    assert torch.equal(padded[0], padded[1])
    again = [framework.JaggedTensor.from_dense(mine.to_dense()) for framework in (ours, theirs)]
    assert again[0].lengths().tolist() == again[1].lengths().tolist()
    assert again[0].values().tolist() == again[1].values().tolist()


def test_keyed_tensor_regroups() -> None:
    tensors = [torch.arange(6.0).reshape(2, 3), torch.arange(4.0).reshape(2, 2), torch.ones(2, 1)]
    groups = [["b", "a"], ["c"], ["a"]]
    found = []
    for framework in (ours, theirs):
        first = framework.KeyedTensor.from_tensor_list(["a", "b"], tensors[:2])
        second = framework.KeyedTensor.from_tensor_list(["c"], tensors[2:])
        found.append([part.tolist() for part in framework.KeyedTensor.regroup([first, second], groups)])
        assert first.offset_per_key() == [0, 3, 5]
    assert found[0] == found[1]
