"""Random numbers by counter: a draw of sample i depends only on (seed, stream, i).

Sizes: n samples, L positions of a list.
"""

from __future__ import annotations

import numpy as np

from recis_core.backends.initial_values import threefry2x32
from recis_core.backends.placement import split_ids

LABEL, LENGTH, RANK, WEIGHT, HOT = range(5)  # purposes of streams


def uniform(seed: int, samples: np.ndarray, purpose: int, field: int = 0, position: int = 0) -> np.ndarray:
    """float64 [n] in (0, 1), 53 bits, for samples int64 [n]."""
    word = np.array([seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF, field, purpose << 16 | position], np.uint32)
    key = threefry2x32(word[0:1], word[1:2], word[2:3], word[3:4])
    high, low = threefry2x32(key[0], key[1], *split_ids(samples))
    bits = (high.astype(np.uint64) << np.uint64(20)) | (low >> np.uint32(12))
    return (bits.astype(np.float64) + 0.5) * 2.0**-52


def power_law(u: np.ndarray, vocabulary: int, skew: float) -> np.ndarray:
    """int64 ranks in [0, vocabulary) from u in (0, 1): P(rank = r) ∝ ∫ x^-skew dx over [r + 1, r + 2].

    With the integral instead of Zipf's r^-skew the inverse is a formula: no vocabulary needs a table.
    """
    if skew == 1.0:  # noqa: SIM108 — two formulas read better on two lines
        x = np.exp(u * np.log1p(vocabulary))
    else:
        x = (1 + u * ((vocabulary + 1.0) ** (1 - skew) - 1)) ** (1 / (1 - skew))
    return np.clip(x.astype(np.int64) - 1, 0, vocabulary - 1)
