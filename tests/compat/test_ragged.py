"""RaggedTensor without checks, and functions of rows."""

from __future__ import annotations

import pytest
import torch

import recis_core.compat.recis  # noqa: F401, registers torch.ops.recis
from recis_core.compat.recis.nn.functional import array_ops, embedding_ops, fused_ops, hash_ops, ragged_ops
from recis_core.compat.recis.ragged.tensor import RaggedTensor

A, B = -7736835464683084646, -5546720800891377920
X, Y = -4003751876240412087, -1042754718167355375


def test_a_ragged_tensor_keeps_dtypes_and_shares_memory() -> None:
    x = RaggedTensor(
        torch.tensor([1, 2, 3]), torch.tensor([0, 1, 3], dtype=torch.int32), weight=torch.tensor([1, 1, 2])
    )
    assert x.offsets()[0].dtype == torch.int32
    assert x.weight().dtype == torch.int64
    cast = x.to(torch.float32)
    assert {cast.dtype, cast.offsets()[0].dtype, cast.weight().dtype} == {torch.float32}
    assert x.clone().values() is x.values()
    other = x.clone()
    other.set_values(torch.tensor([9]))  # as many as one likes
    assert x.values().tolist() == [1, 2, 3]
    assert x.shape == (2, 2)
    assert RaggedTensor(torch.zeros(3), torch.tensor([0, 3]), dense_shape=(1, 7)).shape == (1, 7)


def test_offsets_that_do_not_fit_show_where_they_are_used() -> None:
    odd = RaggedTensor(torch.ones(3), torch.arange(11))
    assert odd.shape == (10, 1)
    with pytest.raises(ValueError, match="offsets must end at"):
        odd.to_dense()
    assert RaggedTensor(torch.ones(0), torch.tensor([0])).get_shape(1) == 0


def test_functions_of_rows_and_ids() -> None:
    assert array_ops.bucketize(torch.tensor([0.5, 10, 100]), [0, 100, 200]).tolist() == [1, 1, 2]
    assert array_ops.bucketize_mod(torch.tensor([-7808879811642834040]), 1000).tolist() == [576]
    found = array_ops.multi_hash(torch.tensor([1001]), [1, 3, 5, 7], [28979, 46997, 66977, 82997], 1000)
    assert [h.item() for h in found] == [1, 3, 5, 7]
    data, splits = torch.tensor([0, 1, 2, 1, 2, 3], dtype=torch.int8), torch.tensor([0, 3, 6], dtype=torch.int32)
    assert hash_ops.farmhash([data], [splits])[0].tolist() == [A, B]
    assert hash_ops.murmurhash([data], [splits])[0].tolist() == [X, Y]
    assert fused_ops.fused_ids_encode_gpu([torch.tensor([5]), torch.tensor([5])], [0, 1]).tolist() == [5, 5 | 1 << 52]
    assert fused_ops.fused_uint64_mod_gpu([torch.tensor([7]), torch.tensor([7])], torch.tensor([2, 3]))[1].tolist() == [
        1
    ]
    ids, offsets, weights = ragged_ops.feature_cross_ragged(
        torch.tensor([1001]), torch.tensor([0, 1]), torch.tensor([1]), torch.tensor([0, 1])
    )
    assert (ids.tolist(), offsets.tolist(), weights.tolist()) == ([-7808879811642834040], [0, 1], [1.0])


def test_rows_are_cut_in_two_and_three_dimensions() -> None:
    sides = torch.tensor([True]), torch.tensor([False])
    values, offsets, dropped, padded, drops, _ = ragged_ops.fused_ragged_cutoff_2D(
        [torch.tensor([9, 30, 31, 32, 33])], [torch.tensor([0, 1, 5], dtype=torch.int32)], torch.tensor([3]), *sides
    )
    assert (values[0].tolist(), offsets[0].tolist(), offsets[0].dtype) == ([9, 31, 32, 33], [0, 1, 4], torch.int32)
    assert (dropped[0].tolist(), padded[0].tolist(), drops[0].item()) == ([0, 1], [2, 0], True)
    with pytest.raises(ValueError, match="drop_sides must be of torch.bool"):
        ragged_ops.fused_ragged_cutoff_2D([], [], torch.tensor([]), torch.tensor([1]), sides[1])
    cut, levels = ragged_ops.fused_ragged_cutoff_3D(
        [torch.tensor([1, 2, 3])], [[torch.tensor([0, 1, 2]), torch.tensor([0, 1, 3])]], torch.tensor([2])
    )
    assert (cut[0].tolist(), [level.tolist() for level in levels[0]]) == ([1, 2, 3], [[0, 2, 4], [0, 1, 1, 3, 3]])


def test_places_before_a_cut() -> None:
    places, offsets = ragged_ops.ragged_topk_index_cutoff(
        torch.tensor([5, 0, 0]), torch.tensor([0, 0, 0]), torch.tensor(True), torch.tensor(False),
        torch.tensor([0, 8, 10, 13], dtype=torch.int32), torch.tensor([[1, 2], [0, 2], [0, 1]]), torch.tensor([0, 1, 2]),
    )  # fmt: skip
    assert (places.tolist(), offsets.tolist()) == ([6, 7, 8, 10, 11], [0, 2, 3, 5])


DATA, WEIGHT = torch.tensor([[1.0, 1], [2, 2], [3, 3]]), torch.tensor([2, 3, 0.5, 1])
INDEX, SEGMENTS = torch.tensor([2, 0, 1, 0]), torch.tensor([0, 1, 1, 2])


@pytest.mark.parametrize(
    ("combiner", "want", "gradient"),
    [("sum", [6, 4, 1, 0], [4, 0.5, 2]), ("mean", [3, 4 / 3.5, 1, 0], [1 + 3 / 3.5, 0.5 / 3.5, 1])],
)
def test_segments_are_reduced(combiner: str, want: list[float], gradient: list[float]) -> None:
    data = DATA.clone().requires_grad_()
    out = embedding_ops.sparse_embedding_segment_reduce(data, WEIGHT, INDEX, SEGMENTS, 4, combiner)
    out.backward(torch.ones(4, 2))
    torch.testing.assert_close(out[:, 0], torch.tensor(want, dtype=torch.float32))
    torch.testing.assert_close(data.grad[:, 0], torch.tensor(gradient))


def test_a_ragged_mean_divides_by_weights_in_small_calls_and_by_the_count_in_large_ones() -> None:
    offsets, ones = torch.tensor([0, 2]), torch.tensor([[4.0]])
    few = embedding_ops.ragged_embedding_segment_reduce(
        ones, torch.tensor([0.5, 1]), torch.zeros(2).long(), offsets, "mean"
    )
    assert few.item() == 4
    many = embedding_ops.ragged_embedding_segment_reduce(
        ones, torch.full((12,), 0.5), torch.zeros(12).long(), torch.tensor([0, 12]), "mean"
    )
    assert many.item() == pytest.approx(2)
    with pytest.raises(ValueError, match="combiner must be"):
        embedding_ops.ragged_embedding_segment_reduce(ones, None, torch.zeros(2).long(), offsets, "max")


def test_raw_operators_are_registered() -> None:
    ops = torch.ops.recis
    assert ops.merge_offsets([torch.tensor([0, 2, 5]), torch.tensor([0, 3, 6])], torch.tensor([5, 8])).tolist() == [
        0,
        2,
        5,
        8,
        11,
    ]
    assert ops.gen_segment_indices_by_offset(torch.tensor([0, 2, 5])).tolist() == [0, 0, 1, 1, 1]
    values, offsets = ops.dense_to_ragged(torch.tensor([[1, 0, 3, 0, 0], [6, 7, 8, 0, 0]]), True, torch.tensor([0]))
    assert (values.tolist(), offsets.tolist()) == ([1, 0, 3, 6, 7, 8], [0, 3, 6])
    assert RaggedTensor.from_dense(torch.ones(2, 5)).offsets()[0].tolist() == [0, 5, 10]
    tile = ops.segment_reduce_forward(DATA, WEIGHT, INDEX, torch.tensor([0, 1, 4]), "tile")
    torch.testing.assert_close(tile[:, 0], torch.tensor([6.0, 3, 1, 1]))
    back = ops.segment_reduce_backward(torch.ones(2, 2), WEIGHT, INDEX, torch.tensor([0, 1, 4]), 3, "mean")
    torch.testing.assert_close(back[:, 0], torch.tensor([(3 + 1) / 3, 0.5 / 3, 2.0]))
