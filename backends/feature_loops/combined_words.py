"""MurmurHash64A, seed 0, of a row of 64-bit words, word by word; and of each combination of words of two or more columns.

Sizes: N words, B rows.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from recis_core.backends.column_loops.murmur import M, finished, scrambled
from recis_core.backends.numba_backend.compiled import compiled_parallel, inlined

BLOCK = 4096  # words or rows a thread takes at a time


@inlined
def _with_word(state, word):  # type: ignore[no-untyped-def]
    return (state ^ scrambled(np.uint64(word))) * M


@compiled_parallel
def hash_words(state, words, start, last, out):  # type: ignore[no-untyped-def]
    """out uint64 [N]: each of state uint64 [N], or of `start` where state is empty, with one more of words int64 [N].

    last: it is the last word, so the hash ends.
    """
    N, begins = len(words), len(state) == 0
    for block in prange((N + BLOCK - 1) // BLOCK):
        for i in range(block * BLOCK, min(block * BLOCK + BLOCK, N)):
            h = _with_word(start if begins else state[i], words[i])
            out[i] = finished(h) if last else h


@compiled_parallel
def cross_words(state, offsets, words, others, ends, last, out):  # type: ignore[no-untyped-def]
    """The same for each state of a row with each word of it; state by offsets, words by others, out by ends [B + 1]."""
    B = len(ends) - 1
    for block in prange((B + BLOCK - 1) // BLOCK):
        for b in range(block * BLOCK, min(block * BLOCK + BLOCK, B)):
            at = ends[b]
            for i in range(offsets[b], offsets[b + 1]):
                for j in range(others[b], others[b + 1]):
                    h = _with_word(state[i], words[j])
                    out[at] = finished(h) if last else h
                    at += 1
