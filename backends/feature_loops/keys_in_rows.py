"""Where a row's keys hold a wanted one.

Sizes: K keys, W wanted keys, B rows.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from recis_core.backends.numba_backend.compiled import compiled_parallel

BLOCK = 512  # rows a thread takes at a time


@compiled_parallel
def first_places(keys, offsets, wanted, bounds, found):  # type: ignore[no-untyped-def]
    """found int64 [W]: the first place among keys int64 [K] of its row that holds each of wanted int64 [W], or -1.

    Rows of keys lie by offsets, those of wanted by bounds [B + 1].
    """
    B = len(offsets) - 1
    for block in prange((B + BLOCK - 1) // BLOCK):
        for b in range(block * BLOCK, min(block * BLOCK + BLOCK, B)):
            for w in range(bounds[b], bounds[b + 1]):
                place = np.int64(-1)
                for k in range(offsets[b], offsets[b + 1]):
                    if keys[k] == wanted[w]:
                        place = k
                        break
                found[w] = place
