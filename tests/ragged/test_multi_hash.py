"""uint64_mod and multi_hash beside Python's integers, with the numbers of RecIS."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recis_core.ragged import RaggedTensor, largest_prime, multi_hash, multi_hash_with, uint64_mod
from tests.ragged.implementations import implementation, in_both  # noqa: F401

IDS = st.integers(-(2**63), 2**63 - 1)
COLUMNS = st.lists(st.lists(IDS, max_size=8), max_size=5)


@pytest.mark.usefixtures("implementation")
def test_the_numbers_of_recis() -> None:
    ids = torch.tensor([1001, 1002, 1003, -7808879811642834040, -4967483181219983279])
    assert uint64_mod(ids, 1000).tolist() == [1, 2, 3, 576, 337]
    assert [found.tolist() for found in multi_hash(ids[:3], [1000] * 4)] == [
        [1, 2, 3],
        [3, 6, 9],
        [5, 10, 15],
        [7, 14, 21],
    ]


@settings(max_examples=40, deadline=None)
@given(COLUMNS, st.data())
def test_mod(columns: list[list[int]], data: st.DataObject) -> None:
    mods = [data.draw(st.sampled_from([1, 2**63 - 1, 2**62 + 1]) | st.integers(1, 2**63 - 1)) for _ in columns]
    expected = [[id_ % (1 << 64) % mod for id_ in ids] for ids, mod in zip(columns, mods, strict=True)]
    tensors = [torch.tensor(ids, dtype=torch.int64) for ids in columns]
    for fused in in_both(uint64_mod, tensors, mods):
        assert [found for *_, found in fused] == expected
    for ids, mod, found in zip(tensors, mods, expected, strict=True):
        assert [apart for *_, apart in in_both(uint64_mod, ids, mod)] == [found, found]


def hashed(id_: int, mul: int, prime: int, buckets: int) -> int:
    """In C's arithmetic: the product wraps, a remainder has the sign of what is divided."""
    product = (id_ * mul + 2**63) % 2**64 - 2**63
    remainder = abs(product) % prime * (1 if product >= 0 else -1)
    return (remainder + prime) % prime % buckets


@settings(max_examples=40, deadline=None)
@given(COLUMNS, st.data())
def test_multi_hash(columns: list[list[int]], data: st.DataObject) -> None:
    buckets = [data.draw(st.lists(st.integers(1, 10**6), min_size=1, max_size=4)) for _ in columns]
    primes = [[largest_prime(k * n) for k, n in zip((29, 47, 67, 83), found, strict=False)] for found in buckets]
    expected = [
        [[hashed(id_, m, p, n) for id_ in ids] for m, p, n in zip((1, 3, 5, 7), prime, found, strict=False)]
        for ids, prime, found in zip(columns, primes, buckets, strict=True)
    ]
    tensors = [torch.tensor(ids, dtype=torch.int64) for ids in columns]
    muls = [[1, 3, 5, 7][: len(found)] for found in buckets]
    for fused in [*in_both(multi_hash, tensors, buckets), *in_both(multi_hash_with, tensors, muls, primes, buckets)]:
        assert [[part for *_, part in found] for found in fused] == expected
    for ids, found, wanted in zip(tensors, buckets, expected, strict=True):
        for apart in in_both(multi_hash, ids, found):
            assert [part for *_, part in apart] == wanted


def test_multipliers_and_primes_of_ones_own() -> None:
    ids = torch.tensor([[-3], [2**62]])
    rule = torch.tensor([31, -7]), torch.tensor([1009, 2**61 - 1]), torch.tensor([100, 10**9])
    expected = [[[hashed(i, m, p, n)] for i in (-3, 2**62)] for m, p, n in ((31, 1009, 100), (-7, 2**61 - 1, 10**9))]
    for found in in_both(multi_hash_with, ids, *rule):
        assert [part for *_, part in found] == expected


def test_primes() -> None:
    sieve = [n for n in range(2, 2000) if all(n % d for d in range(2, int(n**0.5) + 1))]
    assert [largest_prime(n) for n in range(2, 2000)] == [max(p for p in sieve if p <= n) for n in range(2, 2000)]
    assert [largest_prime(k * 1000) for k in (29, 47, 67, 83)] == [28979, 46997, 66977, 82997]
    assert (largest_prime(2**31), largest_prime(2**61), largest_prime(2**64)) == (2**31 - 1, 2**61 - 1, 2**64 - 59)
    assert largest_prime(3215031751) < 3215031751, "which fools bases 2, 3, 5 and 7"


@pytest.mark.usefixtures("implementation")
def test_rows_and_weights_stay_and_nothing_changes() -> None:
    ids, weight = torch.tensor([5, -1]), torch.ones(2)
    ragged = RaggedTensor(ids, torch.tensor([0, 2, 2]), weight)
    for found in (uint64_mod(ragged, 3), *multi_hash(ragged, [7, 7])):
        assert (found.offsets()[0].tolist(), found.weight() is weight) == ([0, 2, 2], True)
    assert ids.tolist() == [5, -1]
    assert [[h.shape for h in found] for found in multi_hash([ids, ids[:0, None]], [5, 6])] == [
        [(2,)] * 2,
        [(0, 1)] * 2,
    ]
    assert uint64_mod([], []) == multi_hash([], []) == []


def test_what_is_refused() -> None:
    ids = torch.tensor([1])
    for wrong in (0, -1, 2**63):
        with pytest.raises(ValueError, match="mod must be from 1 to"):
            uint64_mod(ids, wrong)
    with pytest.raises(TypeError, match="values must be int64; got torch.int32"):
        uint64_mod(ids.int(), 5)
    for buckets, words in (
        ([], "1 to 4 integers; got 0"),
        ([1] * 5, "got 5"),
        ([0], "from 1 to .*; got 0"),
        ([2**60], "got"),
    ):
        with pytest.raises(ValueError, match=f"num_buckets must be {words}" if "got" not in words[:3] else words):
            multi_hash(ids, buckets)
    with pytest.raises(ValueError, match="primes must be from 1 to"):
        multi_hash_with(ids, [1], [0], [5])
    with pytest.raises(ValueError, match="one entry a hash each; got 1, 2 and 1"):
        multi_hash_with(ids, [1], [3, 5], [5])
    with pytest.raises(ValueError, match="num_buckets must be one list for all columns, or 2, one a column; got 1"):
        multi_hash([ids, ids], [[5]])
    with pytest.raises(ValueError, match="no prime is below 2; got 1"):
        largest_prime(1)
