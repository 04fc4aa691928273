"""MurmurHash64A, seed 0, of a row of 64-bit words; of many columns, and of each combination of words of two or more.

Sizes: C columns, W words of a hash, N hashes of all columns, B rows.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from recis_core.backends.column_loops.addresses import begin_of, column_of, turns_for, word_at
from recis_core.backends.column_loops.murmur import M, finished, scrambled
from recis_core.backends.numba_backend.compiled import compiled, compiled_parallel, inlined

CHUNK = 4096  # hashes or rows a thread takes at a time
NO_MOD = np.uint64(0)


@inlined
def _with_word(state, word):  # type: ignore[no-untyped-def]
    return (state ^ scrambled(np.uint64(word))) * M


def hash_columns(words: np.ndarray, starts: np.ndarray, start: int, mods: np.ndarray, out: np.ndarray) -> None:
    """out int64 [N]: the hash of the n-th words at the addresses words, int64 [W, C]; mod mods, uint64 [C], where not 0.

    start: the hash's state before its first word.
    """
    _hash_all(words, starts, np.uint64(start), mods, out, turns_for(int(starts[-1]), CHUNK))


@compiled_parallel
def _hash_all(words, starts, start, mods, out, turns):  # type: ignore[no-untyped-def]
    N = starts[-1]
    for turn in prange(turns):
        beg = begin_of(turn, turns, CHUNK)
        if beg < N:
            _fill(words, starts, start, mods, beg, min(beg + CHUNK, N), out)


@compiled
def _fill(words, starts, start, mods, beg, end, out):  # type: ignore[no-untyped-def]
    c, W = column_of(starts, beg), len(words)
    while beg < end:
        stop, by, first = min(end, starts[c + 1]), mods[c], starts[c]
        for n in range(beg, stop):
            h = start
            for w in range(W):
                h = _with_word(h, word_at(words[w, c] + 8 * (n - first)))
            h = finished(h)
            out[n] = np.int64(h if by == NO_MOD else h % by)
        beg, c = max(beg, stop), c + 1


@compiled_parallel
def begin_words(words, start, out):  # type: ignore[no-untyped-def]
    """out uint64 [N]: the state after the first of several words, int64 [N]."""
    N = len(words)
    for block in prange((N + CHUNK - 1) // CHUNK):
        for i in range(block * CHUNK, min(block * CHUNK + CHUNK, N)):
            out[i] = _with_word(start, words[i])


@compiled_parallel
def cross_words(state, offsets, words, others, ends, last, out):  # type: ignore[no-untyped-def]
    """out uint64: each state of a row with each word of it; state by offsets, words by others, out by ends [B + 1].

    last: it is the last word, so the hash ends.
    """
    B = len(ends) - 1
    for block in prange((B + CHUNK - 1) // CHUNK):
        for b in range(block * CHUNK, min(block * CHUNK + CHUNK, B)):
            at = ends[b]
            for i in range(offsets[b], offsets[b + 1]):
                for j in range(others[b], others[b + 1]):
                    h = _with_word(state[i], words[j])
                    out[at] = finished(h) if last else h
                    at += 1
