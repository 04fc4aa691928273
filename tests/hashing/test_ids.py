"""Hashes of pairs of ids, and of ids' decimal text."""

from __future__ import annotations

import struct

import farmhash as google
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recis_core.hashing import decimal_multi_hash, hash_decimals, murmur_pairs
from tests.hashing import reference
from tests.ragged.implementations import implementation  # noqa: F401

IDS = st.integers(-(2**63), 2**63 - 1)
CORNERS = [0, 9, 10, -1, -10, 99, 100, 10**18, 10**19 // 10 - 1, 2**63 - 1, -(2**63), *(10**k for k in range(1, 19))]
KINDS = {
    "farm": lambda text: reference.signed(google.Fingerprint64(text)),
    "murmur": reference.murmur64a,
    "sdbm": reference.sdbm,
    "djb2": reference.djb2,
}


@pytest.mark.usefixtures("implementation")
def test_the_pairs_of_recis() -> None:
    x, y = torch.tensor([[1001], [1002], [1003]]), torch.tensor([[1], [2], [3]])
    assert murmur_pairs(x, y).tolist() == [[-7808879811642834040], [-4967483181219983279], [1752425377096056168]]
    assert murmur_pairs(x[:0], y[:0]).shape == (0, 1)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.tuples(IDS, IDS), max_size=9), max_size=4))
def test_pairs_are_hashed_as_sixteen_bytes(columns: list[list[tuple[int, int]]]) -> None:
    expected = [[reference.murmur64a(struct.pack("<qq", x, y)) for x, y in pairs] for pairs in columns]
    xs, ys = ([torch.tensor([p[k] for p in pairs], dtype=torch.int64) for pairs in columns] for k in (0, 1))
    for name in ("numba", "torch"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RECIS_BACKEND", name)
            assert [found.tolist() for found in murmur_pairs(xs, ys)] == expected
            assert [murmur_pairs(x, y).tolist() for x, y in zip(xs, ys, strict=True)] == expected


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("prefix", ["", "item_", "é" * 40])
@pytest.mark.parametrize("kind", KINDS)
def test_decimals(kind: str, prefix: str) -> None:
    expected = [KINDS[kind](f"{prefix}{id_}".encode()) for id_ in CORNERS]
    assert hash_decimals(torch.tensor(CORNERS), kind, prefix).tolist() == expected


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(IDS, max_size=9), st.lists(st.integers(1, 2**63 - 1), min_size=1, max_size=4)), max_size=4
    )
)
def test_multi_hashes_are_those_hashes_modulo_buckets(columns: list[tuple[list[int], list[int]]]) -> None:
    expected = [
        [
            [hash_of(str(id_).encode()) % (1 << 64) % n for id_ in ids]
            for n, hash_of in zip(buckets, KINDS.values(), strict=False)
        ]
        for ids, buckets in columns
    ]
    ids, buckets = [torch.tensor(ids, dtype=torch.int64) for ids, _ in columns], [found for _, found in columns]
    for name in ("numba", "torch"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RECIS_BACKEND", name)
            fused = decimal_multi_hash(ids, buckets)
            assert [[hashes.tolist() for hashes in found] for found in fused] == expected
            apart = [decimal_multi_hash(one, found) for one, found in zip(ids, buckets, strict=True)]
            assert [[hashes.tolist() for hashes in found] for found in apart] == expected


@pytest.mark.usefixtures("implementation")
def test_columns_share_buckets_and_prefix_or_have_their_own() -> None:
    x, y = torch.tensor([[1], [2]]), torch.tensor([3])
    shared = decimal_multi_hash([x, y], [100, 7], "p")
    apart = decimal_multi_hash([x, y], [[100, 7], [100, 7]], ["p", "p"])
    assert [[h.tolist() for h in found] for found in shared] == [[h.tolist() for h in found] for found in apart]
    assert shared[0][0].shape == (2, 1)
    assert [h.tolist() for h in hash_decimals([x, y], ["djb2", "sdbm"])] == [[[177622], [177623]], [51]]


def test_what_is_refused() -> None:
    ids = torch.tensor([1])
    with pytest.raises(TypeError, match="ids must be int64; got torch.int32"):
        hash_decimals(ids.int())
    with pytest.raises(TypeError, match="ids must be int64; got torch.float32"):
        murmur_pairs(ids, ids.float())
    with pytest.raises(ValueError, match=r"y must have the shape of x, \(1,\); got \(2,\)"):
        murmur_pairs(ids, torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="y must have as many columns as x = 2; got 1"):
        murmur_pairs([ids, ids], [ids])
    for buckets in ([], [0], [1] * 5, [-3]):
        with pytest.raises(ValueError, match="num_buckets must be 1 to 4 integers from 1 on"):
            decimal_multi_hash(ids, buckets)
    with pytest.raises(ValueError, match="kind must be farm, murmur, sdbm, djb2; got 'crc'"):
        hash_decimals(ids, "crc")
    with pytest.raises(ValueError, match="prefix must be one for all columns, or a list of 2, one a column; got 1"):
        hash_decimals([ids, ids], prefix=["a"])
