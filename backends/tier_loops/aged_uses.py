"""Uses whose weight decays with time, as logarithms.

Sizes: n rows of a call, R rows.
"""

from __future__ import annotations

import math

import numpy as np

from recis_core.backends.numba_backend.compiled import compiled, inlined

STEPS = 64  # of the table, for a difference of 1
UNSEEN = 40  # of two parts that differ by a factor of e^this, float64 sees the larger
AT = np.arange(UNSEEN * STEPS + 2) / STEPS
SUMS = np.log1p(np.exp(-AT))  # ln(1 + e^-d), at d = k / STEPS
SLOPES = 1 / (1 + np.exp(AT))  # how it falls there; its further derivatives follow from this one


@inlined
def _beside(s, h):  # type: ignore[no-untyped-def]
    """How ln(1 + e^-d) differs at d + h, where it falls by s at d."""
    p, q = s * (1 - s), 1 - 2 * s
    fourth, fifth = p * q * q - 2 * p * p, 8 * p * p * q - p * q * q * q
    return h * (-s + h * (p / 2 + h * (-p * q / 6 + h * (fourth / 24 + h * fifth / 120))))


@compiled
def add_uses(scores, rows, counts, now):  # type: ignore[no-untyped-def]
    """scores, float64 [R], at distinct rows int [n] become ln(e^score + count·e^now), counts int32 [n] from 1 on.

    Between the table's steps by Taylor's series to the fifth power, whose rest float64 does not see.
    """
    for i in range(len(rows)):
        before = scores[rows[i]]
        added = now if counts[i] == 1 else now + math.log(counts[i])
        most = max(before, added)
        apart = STEPS * (most - min(before, added))
        if apart < STEPS * UNSEEN:
            k = np.int64(apart + 0.5)
            most += SUMS[k] + _beside(SLOPES[k], (apart - k) / STEPS)
        scores[rows[i]] = most
