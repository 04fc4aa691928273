"""pallas_kernels knows no tables; what it repeats of their format must be the same. Needs torch, for backends does."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="backends/ needs torch")

from recis_core.backends import initial_values, placement
from recis_core.backends.spec import RULES as SPECIFIED
from recis_core.pallas_kernels.rules import RULES
from recis_core.pallas_kernels.segment_sum import SUM_CHUNK
from tests.kernels import reference


def test_rules_and_their_numbers():
    assert {kind: rule.hyper for kind, rule in RULES.items()} == SPECIFIED


def test_chunk_of_a_sum():
    assert SUM_CHUNK == placement.SUM_CHUNK


def test_noise():
    ids, uids = np.array([5, -5, 2**62], np.int64), np.array([1, 2, 3], np.uint32)
    rows = [reference.noise(99, int(u), i, 7, 4) for u, i in zip(uids, ids, strict=True)]
    np.testing.assert_array_equal(initial_values.rounding_noise(99, uids, ids, 7, 4), np.stack(rows))
