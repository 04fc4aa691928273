"""sdbm and djb2 of bytes at an address: h = h · base + byte, in 64 bits.

Four bytes a turn, by powers of the base: a turn waits for one product instead of four.
"""

from __future__ import annotations

import numpy as np

from recis_core.backends.column_loops.addresses import byte_at
from recis_core.backends.numba_backend.compiled import compiled

SDBM, SDBM_START = np.uint64(65599), np.uint64(0)
DJB2, DJB2_START = np.uint64(33), np.uint64(5381)


@compiled
def polynomial(s, length, base, h):  # type: ignore[no-untyped-def]
    end, fours = s + length, s + (length & ~3)
    square = base * base
    cube, fourth = square * base, square * square
    while s < fours:
        h = h * fourth + (byte_at(s) * cube + byte_at(s + 1) * square + byte_at(s + 2) * base + byte_at(s + 3))
        s += 4
    while s < end:
        h = h * base + byte_at(s)
        s += 1
    return h
