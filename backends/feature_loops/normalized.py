"""Numbers on a common scale, in one pass.

Sizes: N values.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from recis_core.backends.numba_backend.compiled import compiled_parallel

BLOCK = 4096  # values a thread takes at a time


@compiled_parallel
def normalize(values, logarithm, mean, scale, low, high, out):  # type: ignore[no-untyped-def]
    """out float32 [N]: (±log1p|x| − mean) / scale in float64, then low .. high; without logarithm of x itself."""
    N = len(values)
    for block in prange((N + BLOCK - 1) // BLOCK):
        for i in range(block * BLOCK, min(block * BLOCK + BLOCK, N)):
            x = np.float64(values[i])
            if logarithm:
                x = math.copysign(math.log1p(abs(x)), x)
            x = (x - mean) / scale
            if x < low:
                x = low
            if x > high:
                x = high
            out[i] = np.float32(x)
