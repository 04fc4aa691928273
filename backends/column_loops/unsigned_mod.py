"""Unsigned modulo. Sizes: C columns, N ids of all columns."""

from __future__ import annotations

import numpy as np
from numba import prange

from recis_core.backends.column_loops.addresses import begin_of, column_of, turns_for, word_at
from recis_core.backends.numba_backend.compiled import compiled, compiled_parallel

CHUNK = 8192  # ids a thread takes at a time


def mod_columns(ids: np.ndarray, starts: np.ndarray, mods: np.ndarray, out: np.ndarray) -> None:
    """out int64 [N]; ids int64 [C], addresses; mods uint64 [C]."""
    _mod_all(ids, starts, mods, out, turns_for(int(starts[-1]), CHUNK))


@compiled_parallel
def _mod_all(ids, starts, mods, out, turns):  # type: ignore[no-untyped-def]
    N = starts[-1]
    for turn in prange(turns):
        beg = begin_of(turn, turns, CHUNK)
        if beg < N:
            _fill(ids, starts, mods, beg, min(beg + CHUNK, N), out)


@compiled
def _fill(ids, starts, mods, beg, end, out):  # type: ignore[no-untyped-def]
    c = column_of(starts, beg)
    while beg < end:
        stop, by, base = min(end, starts[c + 1]), mods[c], ids[c] - 8 * starts[c]
        for n in range(beg, stop):
            out[n] = np.int64(word_at(base + 8 * n) % by)
        beg, c = max(beg, stop), c + 1
