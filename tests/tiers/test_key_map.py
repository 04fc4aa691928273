"""A map of keys against a dict."""

from __future__ import annotations

import numpy as np

from backends.numba_backend.key_map import KeyMap


def test_key_map_is_a_dict() -> None:
    random, found, expected = np.random.default_rng(0), KeyMap(), {}
    for turn in range(600):
        n = random.integers(0, 200)
        ids, tables = random.choice(900, n, replace=False) - 400, random.integers(0, 2, n).astype(np.int32)
        keys = list(zip(ids.tolist(), tables.tolist(), strict=True))
        if turn % 3 < 2:
            numbers = random.integers(0, 1 << 40, n)
            assert found.swap(ids, tables, numbers).tolist() == [expected.get(key, -1) for key in keys]
            expected |= dict(zip(keys, numbers.tolist(), strict=True))
        else:
            had = np.array([expected.get(key, 5) if random.random() < 0.9 else 7 for key in keys], np.int64)
            found.drop(ids, tables, had)
            for key, number in zip(keys, had.tolist(), strict=True):
                if expected.get(key) == number:
                    del expected[key]
        assert len(found) == len(expected)
    assert len(expected) > 500
