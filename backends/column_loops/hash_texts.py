"""Hashes of all texts of many columns, each text read once. Sizes: C columns, N texts of all columns."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import prange

from recis_core.backends.column_loops.addresses import begin_of, column_of, turns_for
from recis_core.backends.column_loops.byte_hashes import DJB2 as DJB2_BASE
from recis_core.backends.column_loops.byte_hashes import DJB2_START, SDBM_START, polynomial
from recis_core.backends.column_loops.byte_hashes import SDBM as SDBM_BASE
from recis_core.backends.column_loops.farmhash import farm64
from recis_core.backends.column_loops.murmur import murmur64
from recis_core.backends.column_loops.texts import CHUNK, COLUMN, FIXED, NOT_THERE, OFFSETS32, OFFSETS64, VIEWS, text_at
from recis_core.backends.column_loops.xxh3 import xxh3
from recis_core.backends.numba_backend.compiled import compiled_parallel

__all__ = ["COLUMN", "FIXED", "KINDS", "OFFSETS32", "OFFSETS64", "VIEWS", "hash_columns"]

KINDS = ("farm", "murmur", "sdbm", "djb2", "xxh3")
FARM, MURMUR, SDBM, DJB2 = range(4)


@cache
def _loop_of(kind: int) -> Any:
    """The loop of one hash, whose `kind` is a constant in it: what first hashes text waits for that one alone to compile.

    All in one function, for what a loop calls is compiled once for itself and once more in each of its callers.
    """

    @compiled_parallel
    def hash_texts(seed, columns, starts, out, wrong):  # type: ignore[no-untyped-def]
        """out int64 [N], 0 for a null. wrong int64 [turns]: the first text of a turn that is not in its column, or -1."""
        N, turns = starts[-1], len(wrong)
        for turn in prange(turns):
            beg = begin_of(turn, turns, CHUNK)
            end, wrong[turn] = min(beg + CHUNK, N), -1
            c = column_of(starts, min(beg, N - 1))
            while beg < end:
                f, first, stop = columns[c], starts[c], min(end, starts[c + 1])
                data, size, places, layout, width = f.data, f.size, f.places, f.layout, f.width
                valid, valid_from, buffers = f.valid, f.valid_from, f.buffers
                for n in range(beg, stop):
                    address, length = text_at(n - first, data, size, places, layout, width, valid, valid_from, buffers)
                    if length < 0:
                        out[n] = 0
                        if length == NOT_THERE:
                            wrong[turn] = n if wrong[turn] < 0 else wrong[turn]
                    elif kind == FARM:
                        out[n] = np.int64(farm64(address, length))
                    elif kind == MURMUR:
                        out[n] = np.int64(murmur64(address, length, seed))
                    elif kind == SDBM:
                        out[n] = np.int64(polynomial(address, length, SDBM_BASE, SDBM_START))
                    elif kind == DJB2:
                        out[n] = np.int64(polynomial(address, length, DJB2_BASE, DJB2_START))
                    else:
                        out[n] = np.int64(xxh3(address, length))
                beg, c = max(beg, stop), c + 1

    return hash_texts


def hash_columns(
    kind: str, columns: np.ndarray, starts: np.ndarray, out: np.ndarray, seed: int = 0
) -> tuple[int, int] | None:
    """Fill out int64 [N]. columns, COLUMN [C]; starts int64 [C + 1]. Returns (column, text) of a text whose place is not in
    its column, or None."""
    wrong = np.empty(turns_for(int(starts[-1]), CHUNK), np.int64)
    _loop_of(KINDS.index(kind))(np.uint64(seed), columns, starts, out, wrong)
    found = wrong[wrong >= 0]
    if not len(found):
        return None
    column = int(np.searchsorted(starts, found.min(), side="right")) - 1
    return column, int(found.min() - starts[column])
