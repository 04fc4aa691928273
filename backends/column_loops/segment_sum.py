"""Sums of vectors by segment in a fixed order: chunks of CHUNK occurrences from left to right, then the chunks' sums likewise,
until one is left. So a hot segment loses no more digits than others, and no sum depends on threads.

Sizes: N occurrences, S segments, V vectors, D dim.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from recis_core.backends.column_loops.addresses import begin_of, turns_for
from recis_core.backends.numba_backend.compiled import compiled, compiled_parallel

CHUNK = 32
LEVELS = 13  # CHUNK ** 13 is more than 2 ** 64
ROWS = 64  # segments a thread takes at a time


@compiled
def sort_by_segment(segments, offsets, order, at):  # type: ignore[no-untyped-def]
    """offsets int64 [S + 1] and order int64 [N]: the occurrences of each segment, in order. at: int64 [S], to work with."""
    S = len(at)
    for s in range(S + 1):
        offsets[s] = 0
    for i in range(len(segments)):
        offsets[segments[i] + 1] += 1
    for s in range(S):
        at[s] = offsets[s]
        offsets[s + 1] += offsets[s]
    for i in range(len(segments)):
        order[at[segments[i]]] = i
        at[segments[i]] += 1


def sum_segments(  # type: ignore[no-untyped-def]
    vectors: np.ndarray, source: np.ndarray, scale: np.ndarray, offsets: np.ndarray, out
) -> None:
    """out [S, D] = Σ scale[i] · vectors[source[i]] over the occurrences of each segment; vectors [V, D], scale [N] and out
    are all float32 or all float64."""
    turns = turns_for(len(out), ROWS)
    levels = np.zeros((turns, LEVELS, out.shape[1]), out.dtype)
    _sum_all(vectors, source, scale, offsets, out, levels, np.zeros((turns, LEVELS), np.int64))


@compiled_parallel
def _sum_all(vectors, source, scale, offsets, out, levels, counts):  # type: ignore[no-untyped-def]
    """levels [turns, LEVELS, D]: a turn's open chunk of each level, zeros between segments; counts: its members."""
    S, turns = len(out), len(levels)
    for turn in prange(turns):
        beg = begin_of(turn, turns, ROWS)
        for s in range(beg, min(beg + ROWS, S)):
            last = _sum_one(vectors, source, scale, offsets[s], offsets[s + 1], levels, counts, turn)
            _take(levels, counts, turn, last, out, s)


@compiled
def _sum_one(vectors, source, scale, first, end, levels, counts, turn):  # type: ignore[no-untyped-def]
    """The level that then holds the sum."""
    for i in range(first, end):
        for d in range(levels.shape[2]):
            levels[turn, 0, d] += scale[i] * vectors[source[i], d]
        counts[turn, 0] += 1
        k = 0
        while counts[turn, k] == CHUNK:
            _close(levels, counts, turn, k)
            k += 1
    if end - first < CHUNK:
        return 0
    for k in range(LEVELS - 1):
        if counts[turn, k] > 0:
            _close(levels, counts, turn, k)
    return LEVELS - 1


@compiled
def _close(levels, counts, turn, k):  # type: ignore[no-untyped-def]
    """A chunk's sum goes to the next level."""
    for d in range(levels.shape[2]):
        levels[turn, k + 1, d] += levels[turn, k, d]
        levels[turn, k, d] = 0
    counts[turn, k] = 0
    counts[turn, k + 1] += 1


@compiled
def _take(levels, counts, turn, k, out, s):  # type: ignore[no-untyped-def]
    for d in range(levels.shape[2]):
        out[s, d] = levels[turn, k, d]
        levels[turn, k, d] = 0
    counts[turn, k] = 0
