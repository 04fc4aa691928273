"""Counts of ids without a row: exact ones that run out of room, and those of a counting Bloom filter."""

from __future__ import annotations

import numpy as np
import torch

from recis_core.nn import AdmitHook, HashTable
from recis_core.table.admission.bloom_counter import HASHES, BloomCounter
from recis_core.table.admission.exact_counter import ExactCounter

UIDS = (7, 3)


def _keys(ids: range) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ordinals = torch.zeros(len(ids), dtype=torch.int32)
    return torch.tensor(list(ids), dtype=torch.int64), ordinals, torch.ones_like(ordinals)


def test_exact_counts() -> None:
    counter = ExactCounter(UIDS, 1000)
    ids, ordinals = torch.tensor([-5, 2**62, 8, 8]), torch.tensor([0, 1, 0, 1], dtype=torch.int32)
    assert counter.add(ids, ordinals, torch.tensor([1, 2, 3, 4])).tolist() == [1, 2, 3, 4]
    assert counter.add(ids, ordinals, torch.tensor([1, 1, 1, 1])).tolist() == [2, 3, 4, 5]
    counter.forget(ids[:2], ordinals[:2])
    assert counter.add(ids, ordinals, torch.tensor([1, 1, 1, 1])).tolist() == [1, 1, 5, 6]


def test_a_full_counter_forgets_whom_it_saw_longest_ago() -> None:
    counter = ExactCounter(UIDS, 12)
    counter.add(*_keys(range(12)))
    counter.add(*_keys(range(6)))
    assert counter.add(*_keys(range(100, 106))).tolist() == [1] * 6
    assert (counter.overflow, len(counter)) == (6, 12)
    assert counter.add(*_keys(range(6))).tolist() == [3] * 6
    assert counter.add(*_keys(range(6, 12))).tolist() == [1] * 6


def test_more_ids_in_a_batch_than_a_counter_holds() -> None:
    table = HashTable([2], admit_hook=AdmitHook("Frequency", {"threshold": 2, "capacity": 100}))
    for beg in (0, 5000):
        table(torch.arange(beg, beg + 5000))
    stats = table.stats()
    assert stats["counter_overflow"] == 10_000 - table.physical.storage.gate.policy.counter.capacity
    assert stats["rejected"] == 10_000
    table(torch.arange(9999, 9980, -1))
    assert stats["rows"] == 0
    assert table.stats()["rows"] == 19  # seen last, and so still counted


def test_bloom_is_never_late() -> None:
    """Estimates are no lower than counts, however crowded; and with room they are the counts."""
    rng = np.random.default_rng(0)
    crowded, roomy = BloomCounter(UIDS, 300, 200, 0), BloomCounter(UIDS, 1 << 20, 200, 0)
    true = np.zeros(500, np.int64)
    for _ in range(20):
        ids = np.unique(rng.zipf(1.3, 60) % 500)
        counts = rng.integers(1, 5, len(ids))
        true[ids] += counts
        call = torch.from_numpy(ids), torch.zeros(len(ids), dtype=torch.int32), torch.from_numpy(counts)
        assert (crowded.add(*call).numpy() >= np.minimum(true[ids], 200)).all()
        assert roomy.add(*call).tolist() == true[ids].tolist()


def test_bloom_admits_early_as_often_as_theory_says() -> None:
    """Each of n new ids comes once, in batches, with threshold 2: early is whose cells were all taken before.

    An id that comes as number i finds a cell taken with 1 − e^(−k·i/m); the mean over i, within a tenth.
    """
    m, n, part = 1 << 16, 20_000, 500
    bloom = BloomCounter(UIDS, m, 255, 0)
    early = sum(int((bloom.add(*_keys(range(beg, beg + part))) > 1).sum()) for beg in range(0, n, part))
    seen = np.repeat(np.arange(0, n, part), part)  # within a batch nobody sees the others
    theory = ((1 - np.exp(-HASHES * seen / m)) ** HASHES).sum()
    assert abs(early - theory) < 0.1 * theory, (early, theory)


def test_bloom_counts_up_to_16_bits_and_ages() -> None:
    bloom = BloomCounter(UIDS, 4096, 40_000, 10)
    ids, ordinals, counts = _keys(range(3))
    assert bloom.add(ids, ordinals, 30_000 * counts).tolist() == [30_000] * 3
    bloom.age(9)
    assert bloom.add(ids, ordinals, 20_000 * counts).tolist() == [40_000] * 3
    bloom.age(35)
    assert bloom.add(ids, ordinals, counts).tolist() == [5001] * 3


def test_bloom_of_two_ranks() -> None:
    """Merged estimates are not too low for either's keys."""
    one, two = BloomCounter(UIDS, 4096, 255, 0), BloomCounter(UIDS, 4096, 255, 0)
    one.add(*_keys(range(50)))
    for _ in range(2):
        two.add(*_keys(range(50, 90)))
    one.merge(two.state())
    assert one.add(*_keys(range(50, 90))).ge(3).all()
    assert one.add(*_keys(range(50))).ge(2).all()
    one.merge(BloomCounter(UIDS, 512, 255, 0).state())
