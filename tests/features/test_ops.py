"""What each op gives: RecIS's numbers for its ops, and ours by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from recis_core.features import (
    Bucketize,
    Combine,
    Custom,
    FeatureCross,
    FillNull,
    Hash,
    IDMultiHash,
    Lookup,
    Mod,
    Normalize,
    SelectField,
    SelectFields,
    SequenceTruncate,
    StringMultiHash,
)
from recis_core.ragged import RaggedTensor
from tests.features.columns import listed, rows, texts

X = rows([1001], [1002], [1003])
MASK = (1 << 64) - 1
M = 0xC6A4A7935BD1E995


@pytest.fixture(params=["loops", "torch"], autouse=True)
def implementation(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECIS_BACKEND", "numba" if request.param == "loops" else "torch")


def murmur(words: list[int]) -> int:
    """MurmurHash64A of 64-bit words, seed 0, in plain Python."""
    h = 8 * len(words) * M & MASK
    for word in words:
        k = (word & MASK) * M & MASK
        k = (k ^ k >> 47) * M & MASK
        h = (h ^ k) * M & MASK
    h = (h ^ h >> 47) * M & MASK
    return h ^ h >> 47


def signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def test_mod_is_unsigned() -> None:
    ids = rows([1001, 1002, 1003], [-7808879811642834040], [-4967483181219983279])
    assert listed(Mod(1000)(ids)) == [[1, 2, 3], [576], [337]]
    assert Mod(1000)(torch.tensor([[1001, -7808879811642834040]])).tolist() == [[1, 576]]
    sparse = torch.sparse_coo_tensor([[0, 2]], [1001, -7808879811642834040], (3,), check_invariants=False)
    assert Mod(1000)(sparse).to_dense().tolist() == [1, 0, 576]
    assert Mod(2**63 - 1)(torch.tensor([-1, -2])).tolist() == [1, 0]


def test_bucketize_puts_a_boundary_right() -> None:
    out = Bucketize([0, 100, 200])(torch.tensor([0.5, 10, 11.6, -1, 0, 100, 200, 1e9, math.nan]))
    assert out.tolist() == [1, 1, 1, 0, 1, 2, 3, 3, 3]
    assert out.dtype == torch.int64
    assert listed(Bucketize([18, 30])(rows([17, 18], [40]))) == [[0, 1], [2]]
    assert Bucketize([0.1])(torch.tensor([0.1])).tolist() == [1]
    assert Bucketize(torch.tensor([0.1], dtype=torch.float64))(torch.tensor([0.1], dtype=torch.float64)).tolist() == [1]
    exact = torch.tensor([(1 << 53) - 1, 1 << 53, (1 << 20) + 1, 1 << 20])
    assert Bucketize([0.5 + (1 << 20), 1 << 53])(exact).tolist() == [1, 2, 1, 0]
    assert Bucketize([])(torch.tensor([1.0])).tolist() == [0]


def test_hash_is_of_the_innermost_level() -> None:
    letters = RaggedTensor(
        torch.tensor([0, 1, 2, 1, 2, 3], dtype=torch.int8), [torch.tensor([0, 1, 2]), torch.tensor([0, 3, 6])]
    )
    assert listed(Hash("farm")(letters)) == [[-7736835464683084646], [-5546720800891377920]]
    assert listed(Hash("murmur")(letters)) == [[-4003751876240412087], [-1042754718167355375]]
    nested = RaggedTensor(letters.values(), [torch.tensor([0, 2]), *letters.offsets()])
    assert listed(Hash("farm")(nested)) == [[[-7736835464683084646], [-5546720800891377920]]]


def test_id_multi_hash() -> None:
    out = IDMultiHash([1000] * 4)(X)
    found = {name: [v for row in listed(value) for v in row] for name, value in out.items()}
    assert found == {
        "multi_hash_0": [1, 2, 3],
        "multi_hash_1": [3, 6, 9],
        "multi_hash_2": [5, 10, 15],
        "multi_hash_3": [7, 14, 21],
    }


def test_string_multi_hash() -> None:
    out = StringMultiHash([1 << 62] * 4)(torch.tensor([123]))
    assert out["multi_hash_2"].tolist() == [210861491250]
    assert out["multi_hash_3"].tolist() == [193432059]
    assert StringMultiHash([1 << 62] * 4, "a")(torch.tensor([123]))["multi_hash_3"].tolist() != [193432059]


def test_sequence_truncate() -> None:
    out = SequenceTruncate(3)(rows([30, 31, 32, 33], [34], weights=[0.1, 0.2, 0.3, 0.4, 0.5]))
    assert listed(out) == [[31, 32, 33], [34]]
    assert out.weight().tolist() == pytest.approx([0.2, 0.3, 0.4, 0.5])
    assert out.shape == (2, 3)
    assert out.pad_info is not None
    assert listed(SequenceTruncate(3, truncate_side="right")(rows([30, 31, 32, 33], [34]))) == [[30, 31, 32], [34]]
    assert SequenceTruncate(2)(torch.tensor([[1, 2, 3]])).tolist() == [[2, 3]]
    assert SequenceTruncate(2, truncate_side="right")(torch.tensor([[1, 2, 3]])).tolist() == [[1, 2]]
    long = rows([1, 2, 3])
    assert SequenceTruncate(2, truncate=False, check_length=False)(long) is long
    with pytest.raises(ValueError, match="rows must have at most seq_len = 2 values; the longest has 3"):
        SequenceTruncate(2, truncate=False)(long)


def test_sequence_truncate_of_three_dimensions() -> None:
    sessions = RaggedTensor(torch.arange(1, 7), [torch.tensor([0, 3, 4]), torch.tensor([0, 2, 3, 5, 6])])
    assert listed(SequenceTruncate(2, n_dims=3)(sessions)) == [[[3], [4, 5]], [[6], []]]
    assert listed(SequenceTruncate(2, n_dims=3, truncate_side="right")(sessions)) == [[[1, 2], [3]], [[6], []]]


def test_feature_cross() -> None:
    out = FeatureCross()([X, rows([1], [2], [3])])
    assert listed(out) == [[-7808879811642834040], [-4967483181219983279], [1752425377096056168]]
    weighted = FeatureCross()([rows([1, 1, 2], weights=[2.0, 5.0, 3.0]), rows([7], weights=[0.5])])
    assert sorted(weighted.weight().tolist()) == [1.0, 1.5]
    assert FeatureCross()([torch.tensor([1001]), torch.tensor([1])]).values().tolist() == [-7808879811642834040]


def test_combine_is_the_cross_of_any_number() -> None:
    assert Combine()([torch.tensor([1001]), torch.tensor([1])]).tolist() == [-7808879811642834040]
    triple = [torch.tensor([5, -6]), torch.tensor([7, 8]), torch.tensor([9, 2**62])]
    words = list(zip(*(column.tolist() for column in triple), strict=True))
    assert Combine()(triple).tolist() == [signed(murmur(list(row))) for row in words]
    assert Combine(97)(triple).tolist() == [murmur(list(row)) % 97 for row in words]
    assert Combine(97)(torch.tensor([[3, 4]])).tolist() == [[murmur([3]) % 97, murmur([4]) % 97]]


def test_combine_of_lists_has_each_combination_of_a_row() -> None:
    x = rows([1, 2], [3], [], weights=[1.0, 2.0, 3.0])
    y = rows([7], [8, 9], [10])
    out = Combine()([x, y, torch.tensor([4, 5, 6])])
    wanted = [[[1, 7, 4], [2, 7, 4]], [[3, 8, 5], [3, 9, 5]], []]
    assert listed(out) == [[signed(murmur(words)) for words in row] for row in wanted]
    assert out.weight().tolist() == [1, 2, 3, 3]
    assert Combine()([x]).weight().tolist() == [1, 2, 3]


def test_fill_null() -> None:
    assert FillNull(0.5)(torch.tensor([1.0, math.nan])).tolist() == [1, 0.5]
    assert FillNull(9, null=-1)(torch.tensor([3, -1])).tolist() == [3, 9]
    assert FillNull(2.0, null=-0.0)(torch.tensor([math.inf, -math.inf, 0.0, math.nan])).tolist() == [
        math.inf,
        -math.inf,
        2,
        2,
    ]
    filled = FillNull(-1.0)(rows([3.0, math.nan], [], [5.0], dtype=torch.float32, weights=[0.1, 0.2, 0.3]))
    assert listed(filled) == [[3, -1], [-1], [5]]
    assert filled.weight().tolist() == pytest.approx([0.1, 0.2, 1, 0.3])
    assert listed(FillNull(7, empty_rows=False)(rows([1], []))) == [[1], []]
    nested = RaggedTensor(torch.tensor([4]), [torch.tensor([0, 2, 2]), torch.tensor([0, 0, 1])])
    assert listed(FillNull(7)(nested)) == [[[7], [4]], []]
    assert listed(FillNull(7)(rows([], []))) == [[7], [7]]
    assert listed(FillNull(7)(rows())) == []


def test_normalize_without_a_fit() -> None:
    x = torch.tensor([0.0, math.e - 1, -(math.e - 1), 1e9, math.nan])
    out = Normalize(log1p=True, clip=[-0.5, 2])(x)
    assert out[:4].tolist() == [0, 1, -0.5, 2]
    assert out[4].isnan()
    assert out.dtype == torch.float32
    assert listed(Normalize(clip=[0, 5])(rows([7, 3], []))) == [[5, 3], []]
    assert Normalize()(torch.tensor([1, 2**53 + 1])).tolist() == [1, float(2**53)]


def test_normalize_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.linspace(-50, 50, 99).reshape(3, 33).t()
    whole = Normalize(log1p=True)(x)
    monkeypatch.setattr("recis_core.features.normalize.BLOCK", 7)
    blocks = Normalize(log1p=True)(x)
    assert blocks.shape == (33, 3)
    assert torch.equal(blocks, whole)


def test_lookup_of_a_key() -> None:
    keys, values = rows([3, 7], [7], [3]), rows([0.1, 0.2], [0.3], [0.4], dtype=torch.float64)
    assert Lookup(7, 0)([keys, values]).tolist() == [0.2, 0.3, 0]
    assert listed(Lookup(7)([keys, values])) == [[0.2], [0.3], []]
    assert Lookup(7, -1)([rows([7, 7]), rows([1, 2])]).tolist() == [1]


def test_lookup_of_text_and_of_a_column() -> None:
    keys, values = texts(["age", "town"], [], ["town"]), rows([30, 5], [], [6])
    assert Lookup("town", -1)([keys, values]).tolist() == [5, -1, 6]
    wanted = texts(["town", "x"], ["age"], [])
    assert listed(Lookup(default=0)([keys, values, wanted])) == [[5, 0], [0], []]
    assert listed(Lookup()([keys, values, wanted])) == [[5], [], []]
    ids = rows([1, 2], [3]), rows([10, 20], [30])
    assert Lookup(default=0)([*ids, torch.tensor([[2, 9], [3, 3]])]).tolist() == [[20, 0], [30, 30]]
    assert Lookup(default=0)([*ids, torch.tensor([2, 9])]).tolist() == [20, 0]


def test_custom_calls_a_function() -> None:
    double = Custom("double", 1, lambda value: value * 2)
    assert double(torch.tensor([2])).tolist() == [4]
    total = Custom("total", 3, lambda columns: columns[0] + columns[1])
    assert total([torch.tensor([1]), torch.tensor([5])]).tolist() == [6]


def test_select_field() -> None:
    data = {"x": X, "y": torch.tensor([1])}
    assert SelectField("x")(data) is X
    sized = SelectField("x", dim=4)(data)
    assert (sized.shape, X.shape) == ((3, 4), (3, 1))
    assert SelectField("x", dim=5, from_dict=False)(X).shape == (3, 5)
    assert SelectFields(["y", SelectField("x")])(data) == [data["y"], X]
