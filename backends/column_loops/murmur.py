"""MurmurHash64A of bytes at an address, little-endian, and of pairs of int64.

Sizes: C columns, N values of all columns.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from recis_core.backends.column_loops.addresses import (
    begin_of,
    byte_at,
    column_of,
    half_at,
    int64_at,
    turns_for,
    word_at,
)
from recis_core.backends.numba_backend.compiled import compiled, compiled_parallel, inlined

M = np.uint64(0xC6A4A7935BD1E995)
R = np.uint64(47)
CHUNK = 4096  # pairs a thread takes at a time
SIXTEEN = np.uint64(16)


@inlined
def scrambled(k):  # type: ignore[no-untyped-def]
    k = k * M
    return (k ^ (k >> R)) * M


@inlined
def finished(h):  # type: ignore[no-untyped-def]
    h = (h ^ (h >> R)) * M
    return h ^ (h >> R)


@inlined
def few_bytes(s, count):  # type: ignore[no-untyped-def]
    """The little-endian number of 0 to 7 bytes at address s."""
    if count >= 4:
        return half_at(s) | (half_at(s + count - 4) << np.uint64(8 * (count - 4)))
    if count == 0:
        return np.uint64(0)
    middle, last = count >> 1, count - 1
    return byte_at(s) | (byte_at(s + middle) << np.uint64(8 * middle)) | (byte_at(s + last) << np.uint64(8 * last))


@inlined
def murmur64(s, length, seed):  # type: ignore[no-untyped-def]
    """The hash of `length` bytes from address s on."""
    h, end = seed ^ (np.uint64(length) * M), s + (length & ~7)
    while s < end:
        h = (h ^ scrambled(word_at(s))) * M
        s += 8
    if length & 7:
        h = (h ^ few_bytes(s, length & 7)) * M
    return finished(h)


@inlined
def murmur_pair(x, y):  # type: ignore[no-untyped-def]
    """The hash, int64, of x's eight bytes and y's."""
    h = ((SIXTEEN * M) ^ scrambled(np.uint64(x))) * M
    return np.int64(finished((h ^ scrambled(np.uint64(y))) * M))


@compiled_parallel
def hash_pairs(xs, ys, starts, out, turns):  # type: ignore[no-untyped-def]
    """out int64 [N] from the int64 at the addresses xs and ys, int64 [C]."""
    N = starts[-1]
    for turn in prange(turns):
        beg = begin_of(turn, turns, CHUNK)
        if beg < N:
            _fill_pairs(xs, ys, starts, beg, min(beg + CHUNK, N), out)


@compiled
def _fill_pairs(xs, ys, starts, beg, end, out):  # type: ignore[no-untyped-def]
    c = column_of(starts, beg)
    while beg < end:
        stop, first = min(end, starts[c + 1]), starts[c]
        for n in range(beg, stop):
            out[n] = murmur_pair(int64_at(xs[c] + 8 * (n - first)), int64_at(ys[c] + 8 * (n - first)))
        beg, c = max(beg, stop), c + 1


def turns_for_pairs(N: int) -> int:
    return turns_for(N, CHUNK)
