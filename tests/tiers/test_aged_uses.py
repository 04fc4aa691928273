"""Uses that lose weight, against numpy's logarithms of sums."""

from __future__ import annotations

import numpy as np

from recis_core.backends.tier_loops.aged_uses import add_uses
from recis_core.options.cache_policy import Lfu


def test_uses_are_added_as_numpy_adds_them() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(0, 30, 5000)
    scores[:100], scores[100], scores[101] = -np.inf, 2.5, 2.5 + 39.999
    rows = np.concatenate([[0, 100, 101], 200 + random.permutation(4000)]).astype(np.int32)
    counts = random.integers(1, 5, len(rows)).astype(np.int32)
    want = scores.copy()
    want[rows] = np.logaddexp(scores[rows], np.log(counts) + 2.5)
    add_uses(scores, rows, counts, 2.5)
    np.testing.assert_allclose(scores, want, rtol=0, atol=1e-12)


def test_a_row_used_often_keeps_its_weight() -> None:
    """What each sum is rounded by does not add up: the uses of 5,000 calls, in closed form."""
    policy, scores = Lfu(0.97), np.array([-np.inf])
    rows, once = np.zeros(1, np.int32), np.ones(1, np.int32)
    for tick in range(1, 5001):
        policy.touch(scores, rows, once, tick)
    assert abs(scores[0] - (5000 * -np.log(0.97) + np.log(1 / 0.03))) < 1e-8
