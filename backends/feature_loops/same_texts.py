"""Whether texts are the entries that they were taken for.

Sizes: N texts.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from recis_core.backends.numba_backend.compiled import compiled_parallel

BLOCK = 2048  # texts a thread takes at a time


@compiled_parallel
def keep_same(letters, offsets, entry_letters, entry_offsets, found):  # type: ignore[no-untyped-def]
    """found int64 [N], positions of entries, becomes -1 where text n has other bytes than its entry; -1 stays."""
    N = len(found)
    for block in prange((N + BLOCK - 1) // BLOCK):
        for n in range(block * BLOCK, min(block * BLOCK + BLOCK, N)):
            entry = found[n]
            if entry < 0:
                continue
            beg, first = offsets[n], entry_offsets[entry]
            length = offsets[n + 1] - beg
            same = entry_offsets[entry + 1] - first == length
            k = np.int64(0)
            while same and k < length:
                same = letters[beg + k] == entry_letters[first + k]
                k += 1
            if not same:
                found[n] = -1
