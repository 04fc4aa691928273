"""Features and their ops as modules; numbers of RecIS's."""

from __future__ import annotations

import pytest
import torch

from recis_core.compat.recis.features import FeatureEngine
from recis_core.compat.recis.features.feature import Feature
from recis_core.compat.recis.features.fused_op_impl import FusedCutoffOP, FusedMultiHashOP, FusedOpFactory
from recis_core.compat.recis.features.op import (
    Bucketize,
    FeatureCross,
    Hash,
    IDMultiHash,
    Mod,
    SelectField,
    SelectFields,
    SequenceTruncate,
)
from recis_core.compat.recis.ragged.tensor import RaggedTensor


def ragged(values, *offsets, weight=None, dtype=None) -> RaggedTensor:
    levels = [torch.tensor(level, dtype=torch.int32) for level in offsets]
    return RaggedTensor(torch.tensor(values, dtype=dtype), levels, weight=weight)


def test_ops_give_recis_numbers() -> None:
    assert Mod(1000)(torch.tensor([1001, -4967483181219983279])).tolist() == [1, 337]
    assert Bucketize([0, 100, 200])(ragged([0.5, 10.0, 100.0], [0, 1, 3])).values().tolist() == [1, 1, 2]
    text = ragged([0, 1, 2, 1, 2, 3], [0, 1, 2], [0, 3, 6], dtype=torch.int8)
    assert Hash("farm")(text).values().tolist() == [-7736835464683084646, -5546720800891377920]
    hashed = Hash("murmur")(text)
    assert (hashed.values().tolist(), hashed.shape) == ([-4003751876240412087, -1042754718167355375], (2, 1))
    found = IDMultiHash([1000] * 4)(ragged([1001, 1002, 1003], [0, 1, 2, 3]))
    assert [found[f"multi_hash_{j}"].values().tolist() for j in range(4)] == [
        [1, 2, 3],
        [3, 6, 9],
        [5, 10, 15],
        [7, 14, 21],
    ]


def test_a_cross_has_recis_ids_and_products_of_weights() -> None:
    weight = torch.tensor([2.0, 3, 4])
    x, y = ragged([1001, 1002, 1003], [0, 1, 2, 3], weight=weight), ragged([1, 2, 3], [0, 1, 2, 3])
    pairs = FeatureCross()([x, y])
    assert pairs.values().tolist() == [-7808879811642834040, -4967483181219983279, 1752425377096056168]
    assert pairs.weight().tolist() == [2, 3, 4]
    with pytest.raises(TypeError, match="two RaggedTensors"):
        FeatureCross()([x, torch.ones(3)])


def test_truncation_drops_from_a_side_and_notes_how_much() -> None:
    rows = ragged([9, 30, 31, 32, 33], [0, 1, 5], weight=torch.arange(5.0))
    left = SequenceTruncate(3, check_length=False)(rows)
    assert (left.values().tolist(), left.weight().tolist()) == ([9, 31, 32, 33], [0, 2, 3, 4])
    assert (left.shape, left.pad_info.drop_nums.tolist()) == ((2, 3), [0, 1])
    assert SequenceTruncate(3, False, truncate_side="right")(rows).values().tolist() == [9, 30, 31, 32]
    assert SequenceTruncate(3, False, truncate=False)(rows) is rows
    with pytest.raises(AssertionError, match="at most seq_len = 3"):
        SequenceTruncate(3)(rows)
    deep = SequenceTruncate(2, False, n_dims=3, truncate_side="right")(ragged([1, 2, 3], [0, 1, 2], [0, 1, 3]))
    assert [level.tolist() for level in deep.offsets()] == [[0, 2, 4], [0, 1, 1, 3, 3]]


def test_select_field_sizes_a_ragged_input_alone() -> None:
    rows = ragged([1, 2], [0, 1, 2])
    assert SelectField("x", dim=7)({"x": rows}) is rows
    assert SelectField("x", dim=7, from_dict=False)(rows).shape == (2, 7)
    assert rows.shape == (2, 1)
    with pytest.raises(TypeError, match="must be a dict"):
        SelectField("x")(rows)


def test_a_feature_begins_with_a_field_and_belongs_to_one_engine() -> None:
    with pytest.raises(ValueError, match="first op must be SelectField"):
        Feature("f").add_op(Mod(3))
    feature = Feature("f").add_op(SelectField("x")).add_op(Mod(3))
    FeatureEngine([feature])
    with pytest.raises(ValueError, match="its ops are fixed"):
        feature.add_op(Mod(2))
    with pytest.raises(ValueError, match="belongs to another engine"):
        FeatureEngine([feature])
    with pytest.raises(ValueError, match="two features are named 'f'"):
        FeatureEngine([Feature("f").add_op(SelectField("x")), Feature("f").add_op(SelectField("y"))])
    assert (
        len(FeatureEngine([Feature("f").add_op(SelectField("x")), Feature("f").add_op(SelectField("x"))])._features)
        == 1
    )
    with pytest.raises(NotImplementedError):
        Feature.from_json({})


def test_an_engine_gives_features_and_other_inputs_and_changes_none() -> None:
    engine = FeatureEngine(
        [
            Feature("small").add_op(SelectField("id")).add_op(Mod(10)),
            Feature("smaller").add_op(SelectField("id")).add_op(Mod(4)),
            Feature("combo")
            .add_op(SelectFields([SelectField("id"), SelectField("id")]))
            .add_op(FeatureCross())
            .add_op(Mod(9)),
            Feature("id2").add_op(SelectField("id")),
        ]
    )
    batch = {"id": ragged([17, 23], [0, 1, 2]), "label": torch.ones(2)}
    out = engine(batch)
    assert [out[name].values().tolist() for name in ("small", "smaller", "id")] == [[7, 3], [1, 3], [17, 23]]
    assert out["combo"].weight().tolist() == [1, 1]
    assert set(engine(batch, remain_no_use_data=False)) == {"small", "smaller", "combo", "id2"}
    single = [Feature("s").add_op(SelectField("id")).add_op(Mod(10))(batch)]
    assert single[0].values().tolist() == [7, 3]


def test_fused_ops_equal_single_ones() -> None:
    cut, rows = FusedCutoffOP(), [ragged(list(range(10)), [0, 4, 7, 10]) for _ in range(3)]
    ops = [SequenceTruncate(n, check_length=False, truncate_side="left") for n in (2, 3, 9)]
    for op in ops:
        cut.add_op(op)
    for made, op, column in zip(cut.process(rows), ops, rows, strict=True):
        alone = op(column)
        assert made.values().tolist() == alone.values().tolist()
        assert made.offsets()[0].tolist() == alone.offsets()[0].tolist()
        assert made.dense_shape == alone.dense_shape
    hashes = FusedMultiHashOP([IDMultiHash([10]), IDMultiHash([10, 20])])
    assert [len(found) for found in hashes.process([torch.tensor([1]), torch.tensor([1])])] == [1, 2]
    with pytest.raises(ValueError, match="has a fused class already"):
        FusedOpFactory.register(Mod, FusedCutoffOP)
