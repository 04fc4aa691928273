"""Jagged and keyed tensors, by hand."""

from __future__ import annotations

import pytest
import torch

from recis_core.compat.torchrec import JaggedTensor, KeyedJaggedTensor, KeyedTensor
from tests.compat.torchrec.batches import batch


def lists(kjt: KeyedJaggedTensor) -> dict[str, list[list[float]]]:
    return {key: [bag.tolist() for bag in jagged.to_dense()] for key, jagged in kjt.to_dict().items()}


def test_a_batch_by_its_keys() -> None:
    kjt = batch(weighted=True)
    assert lists(kjt) == {"user": [[7, 9], [], [7]], "item": [[3], [4], [3, 3, 0]]}
    assert (kjt.stride(), kjt.stride_per_key(), kjt.length_per_key(), kjt.offset_per_key()) == (
        3,
        [3, 3],
        [3, 5],
        [0, 3, 8],
    )
    assert kjt.offsets().tolist() == [0, 2, 2, 3, 4, 5, 8]
    assert kjt["item"].weights().tolist() == [3.0, 1.0, 1.0, 2.0, 4.0]
    assert (
        KeyedJaggedTensor.from_offsets_sync(kjt.keys(), kjt.values(), kjt.offsets()).lengths().tolist()
        == kjt.lengths().tolist()
    )
    with pytest.raises(KeyError, match="shop"):
        kjt["shop"]


def test_keys_are_chosen_joined_and_cut() -> None:
    kjt = batch(weighted=True)
    swapped = kjt.permute([1, 0, 1])
    assert swapped.keys() == ["item", "user", "item"]
    assert swapped.values().tolist() == [3, 4, 3, 3, 0, 7, 9, 7, 3, 4, 3, 3, 0]
    assert swapped.weights().tolist()[:6] == [3.0, 1.0, 1.0, 2.0, 4.0, 1.0]
    first, none, second = kjt.split([1, 0, 1])
    assert (lists(first), none.keys(), lists(second)["item"]) == ({"user": [[7, 9], [], [7]]}, [], lists(kjt)["item"])
    assert lists(KeyedJaggedTensor.concat([second, first])) == lists(kjt)
    assert lists(KeyedJaggedTensor.from_jt_dict(kjt.to_dict())) == lists(kjt)
    assert KeyedJaggedTensor.empty_like(kjt).keys() == []
    with pytest.raises(ValueError, match="at most 2 keys"):
        kjt.split([2, 1])
    with pytest.raises(ValueError, match="weights and inverse indices"):
        KeyedJaggedTensor.concat([kjt, batch()])


def test_keys_of_unequal_batches() -> None:
    kjt = KeyedJaggedTensor(
        ["a", "b"], torch.arange(4), lengths=torch.tensor([1, 2, 1]), stride_per_key_per_rank=[[1], [2]]
    )
    assert lists(kjt) == {"a": [[0]], "b": [[1, 2], [3]]}
    assert (kjt.stride(), kjt.variable_stride_per_key(), kjt.permute([1, 0]).stride_per_key()) == (2, True, [2, 1])
    same = KeyedJaggedTensor.from_jt_dict(kjt.to_dict())
    assert (lists(same), same.stride_per_key()) == (lists(kjt), [1, 2])


def test_wrong_pieces_are_refused() -> None:
    values = torch.arange(3)
    with pytest.raises(ValueError, match="lengths"):
        KeyedJaggedTensor(["a"], values)
    with pytest.raises(TypeError, match=r"lengths must be integers; got torch\.float32"):
        JaggedTensor(values, lengths=torch.ones(3))
    with pytest.raises(ValueError, match="one for each of 2 keys"):
        KeyedJaggedTensor(["a", "b"], values, lengths=torch.tensor([1, 1, 1]))
    with pytest.raises(ValueError, match="has no weights"):
        batch().weights()


def test_padded_rows_keep_gradients() -> None:
    values = torch.arange(8.0).reshape(4, 2).requires_grad_()
    jagged = JaggedTensor(values, lengths=torch.tensor([2, 0, 2]))
    padded = jagged.to_padded_dense(1, padding_value=-1.0)
    assert padded.tolist() == [[[0.0, 1.0]], [[-1.0, -1.0]], [[4.0, 5.0]]]
    assert jagged.to_padded_dense().shape == (3, 2, 2)
    padded.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[1.0, 1.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]


def test_dense_forms() -> None:
    jagged = JaggedTensor.from_dense([torch.tensor([1, 2]), torch.tensor([], dtype=torch.int64), torch.tensor([3])])
    assert (jagged.lengths().tolist(), jagged.values().tolist()) == ([2, 0, 1], [1, 2, 3])
    assert [bag.tolist() for bag in jagged.to_dense()] == [[1, 2], [], [3]]
    rectangle = JaggedTensor.from_dense_lengths(torch.tensor([[1, 2], [3, 4]]), torch.tensor([1, 2]))
    assert rectangle.values().tolist() == [1, 3, 4]
    weighted = JaggedTensor(torch.arange(2), torch.tensor([0.5, 2.0]), torch.tensor([0, 2]))
    assert weighted.to_padded_dense_weights().tolist() == [[0.0, 0.0], [0.5, 2.0]]  # type: ignore[union-attr]


def test_keyed_tensor() -> None:
    tensor = KeyedTensor.from_tensor_list(["a", "b"], [torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]])])
    assert (tensor["b"].tolist(), tensor.offset_per_key(), tensor.values().tolist()) == (
        [[3.0]],
        [0, 2, 3],
        [[1.0, 2.0, 3.0]],
    )
    other = KeyedTensor(["c"], [1], torch.tensor([[4.0]]))
    assert [part.tolist() for part in KeyedTensor.regroup([tensor, other], [["c", "a"], ["b"]])] == [
        [[4.0, 1.0, 2.0]],
        [[3.0]],
    ]
    assert list(KeyedTensor.regroup_as_dict([tensor], [["b"]], ["x"])) == ["x"]
    with pytest.raises(ValueError, match="must sum to"):
        KeyedTensor(["a"], [2], torch.zeros(1, 3))
