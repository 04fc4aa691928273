"""An index of rows that numbers them as it likes, against a dict."""

from __future__ import annotations

import numpy as np

from recis_core.backends.tier_loops.key_row_map import places_for
from recis_core.table.tiers.key_index import FreeIndex

KEYS = 4000


def test_free_index_is_a_dict() -> None:
    random, index, expected = np.random.default_rng(0), FreeIndex({"value": (np.int64, 7)}), {}
    for turn in range(400):
        numbers = random.choice(KEYS, random.integers(0, 900), replace=False)
        ids, tables = numbers // 2 - 1000, (numbers % 2).astype(np.int32)
        rows = index.find(ids, tables)
        assert rows.tolist() == [expected.get(key, -1) for key in numbers.tolist()]
        if turn % 3 < 2:
            new = rows < 0
            rows[new] = index.add(ids[new], tables[new])
            assert (index.at["value"][rows[new]] == 7).all()
            index.at["value"][rows] = numbers
            expected |= dict(zip(numbers.tolist(), rows.tolist(), strict=True))
        else:
            index.drop(rows[rows >= 0])
            for key in numbers.tolist():
                expected.pop(key, None)
        assert len(index) == len(expected) == len(set(expected.values()))
        assert index.all_rows().tolist() == sorted(expected.values())
        held = np.array([[key, row] for key, row in expected.items()], np.int64).reshape(-1, 2)
        assert index.at["value"][held[:, 1]].tolist() == held[:, 0].tolist()
    assert len(expected) > 1000


def test_rows_erased_last_are_taken_first() -> None:
    index = FreeIndex({})
    ids, tables = np.arange(5), np.zeros(5, np.int32)
    assert index.add(ids, tables).tolist() == [0, 1, 2, 3, 4]
    index.drop(np.array([3, 1]))
    assert index.add(ids[:3] + 10, tables[:3]).tolist() == [1, 3, 5]


def test_keys_whose_hashes_agree_are_told_apart() -> None:
    """A place's 32 bits are all that a probe compares at first."""
    index = FreeIndex({})
    ids, tables = np.arange(3), np.zeros(3, np.int32)
    rows = index.add(ids, tables)
    index.at["ids"][rows] = ids + 100  # the places still have the hashes of the old ids
    assert index.find(ids, tables).tolist() == [-1, -1, -1]


def test_places_stay_two_thirds_full_at_most() -> None:
    assert all(places_for(rows) * 2 >= rows * 3 for rows in (1, 682, 683, 1024, 5000, 1 << 20))
    index = FreeIndex({})
    for beg in range(0, 30_000, 3000):
        index.add(np.arange(beg, beg + 3000), np.zeros(3000, np.int32))
        assert len(index._places) * 2 >= len(index) * 3
    assert (index.find(np.arange(30_000), np.zeros(30_000, np.int32)) >= 0).all()
