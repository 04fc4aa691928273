"""Positions of ids in a list of distinct ids: open addressing, linear probing.

Sizes: N ids, V entries, C places, a power of two of 2·V at least.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from recis_core.backends.numba_backend.compiled import compiled, compiled_parallel, inlined, prefetch, trailing_zeros

BLOCK = 4096  # ids a thread takes at a time
AHEAD = 12  # ids between a prefetch and its use
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def places_of(entries: np.ndarray) -> np.ndarray:
    """int64 [C, 2]: in each place an entry and 1 more than its position among entries, int64 [V]; or 0 as the latter."""
    places = np.zeros((1 << max(4, (2 * len(entries)).bit_length()), 2), np.int64)
    _fill(entries, places)
    return places


@inlined
def _home(id_, size):  # type: ignore[no-untyped-def]
    return np.int64((np.uint64(id_) * GOLDEN) >> (np.uint64(64) - np.uint64(trailing_zeros(np.uint64(size)))))


@compiled
def _fill(entries, places):  # type: ignore[no-untyped-def]
    last = len(places) - 1
    for n in range(len(entries)):
        at = _home(entries[n], len(places))
        while places[at, 1] != 0:
            at = (at + 1) & last
        places[at, 0], places[at, 1] = entries[n], n + 1


@compiled_parallel
def find_positions(ids, places, found):  # type: ignore[no-untyped-def]
    """found int64 [N]: the position of each of ids int64 [N], -1 for none."""
    N, C = len(ids), len(places)
    for block in prange((N + BLOCK - 1) // BLOCK):
        end = min(block * BLOCK + BLOCK, N)
        for i in range(block * BLOCK, end):
            if i + AHEAD < end:
                prefetch(places, 16 * _home(ids[i + AHEAD], C))
            at = _home(ids[i], C)
            while places[at, 1] != 0 and places[at, 0] != ids[i]:
                at = (at + 1) & (C - 1)
            found[i] = places[at, 1] - 1
