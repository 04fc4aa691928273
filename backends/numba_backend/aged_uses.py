"""Uses that lose weight as time goes, kept as logarithms.

Sizes: n rows of a call, R rows.
"""

from __future__ import annotations

import math

import numpy as np

from backends.numba_backend.compiled import compiled

STEPS = 64  # of the table, for a difference of 1
UNSEEN = 40  # of two parts that differ by a factor of e^this, float64 sees the larger
SUMS = np.log1p(np.exp(-np.arange(UNSEEN * STEPS + 2) / STEPS))  # ln(1 + e^-d), at d = k / STEPS


@compiled
def add_uses(scores, rows, counts, now):  # type: ignore[no-untyped-def]
    """scores, float64 [R], at distinct rows int [n] become ln(e^score + count·e^now), counts int32 [n] from 1 on.

    To 1e-5: between the table's steps the sum is taken for a straight line, which is ten times as fast.
    """
    for i in range(len(rows)):
        before = scores[rows[i]]
        added = now if counts[i] == 1 else now + math.log(counts[i])
        most = max(before, added)
        apart = STEPS * (most - min(before, added))
        if apart < STEPS * UNSEEN:
            k = np.int64(apart)
            most += SUMS[k] + (apart - k) * (SUMS[k + 1] - SUMS[k])
        scores[rows[i]] = most
