"""Hashes of all texts of many columns, each text read once. Sizes: C columns, N texts of all columns."""

from __future__ import annotations

import numpy as np
from numba import prange

from recis_core.backends.column_loops import byte_hashes
from recis_core.backends.column_loops.addresses import begin_of, column_of, turns_for
from recis_core.backends.column_loops.farmhash import farm64
from recis_core.backends.column_loops.murmur import murmur64
from recis_core.backends.column_loops.texts import CHUNK, COLUMN, FIXED, NO_TEXT, OFFSETS32, OFFSETS64, VIEWS, text_at
from recis_core.backends.column_loops.xxh3 import xxh3
from recis_core.backends.numba_backend.compiled import compiled, compiled_parallel, inlined

__all__ = ["COLUMN", "FIXED", "KINDS", "OFFSETS32", "OFFSETS64", "VIEWS", "hash_columns"]

KINDS = ("farm", "murmur", "sdbm", "djb2", "xxh3")
FARM, MURMUR, SDBM, DJB2 = range(4)
SDBM_BASE, SDBM_START = byte_hashes.SDBM, byte_hashes.SDBM_START
DJB2_BASE, DJB2_START = byte_hashes.DJB2, byte_hashes.DJB2_START


@inlined
def hash_of(kind, address, length, seed):  # type: ignore[no-untyped-def]
    if kind == FARM:
        return farm64(address, length)
    if kind == MURMUR:
        return murmur64(address, length, seed)
    if kind == SDBM:
        return byte_hashes.polynomial(address, length, SDBM_BASE, SDBM_START)
    if kind == DJB2:
        return byte_hashes.polynomial(address, length, DJB2_BASE, DJB2_START)
    return xxh3(address, length)


@compiled
def _fill(kind, seed, columns, starts, beg, end, out):  # type: ignore[no-untyped-def]
    """Hashes of texts beg to end of all; the first whose place is not in its column, or -1."""
    c = column_of(starts, beg)
    while beg < end:
        stop, f = min(end, starts[c + 1]), columns[c]
        wrong = _fill_one(
            kind, seed, f.data, f.size, f.places, f.layout, f.width, f.valid, f.valid_from, f.buffers,
            starts[c], beg, stop, out,
        )  # fmt: skip
        if wrong >= 0:
            return wrong
        beg, c = max(beg, stop), c + 1
    return np.int64(-1)


@compiled
def _fill_one(  # type: ignore[no-untyped-def]
    kind, seed, data, size, places, layout, width, valid, valid_from, buffers, first, beg, end, out
):
    """Of one column, whose texts begin at `first`."""
    for n in range(beg, end):
        address, length = text_at(n - first, data, size, places, layout, width, valid, valid_from, buffers)
        if length >= 0:
            out[n] = np.int64(hash_of(kind, address, length, seed))
        elif length == NO_TEXT:
            out[n] = 0
        else:
            return n
    return np.int64(-1)


@compiled_parallel
def hash_texts(kind, seed, columns, starts, out, wrong):  # type: ignore[no-untyped-def]
    """out int64 [N], 0 for a null. wrong int64 [turns]: the first text of a turn that is not in its column, or -1."""
    N, turns = starts[-1], len(wrong)
    for turn in prange(turns):
        beg = begin_of(turn, turns, CHUNK)
        wrong[turn] = _fill(kind, seed, columns, starts, beg, min(beg + CHUNK, N), out) if beg < N else -1


def hash_columns(
    kind: str, columns: np.ndarray, starts: np.ndarray, out: np.ndarray, seed: int = 0
) -> tuple[int, int] | None:
    """Fill out int64 [N]. columns, COLUMN [C]; starts int64 [C + 1]. Returns (column, text) of a text whose place is not in
    its column, or None."""
    wrong = np.empty(turns_for(int(starts[-1]), CHUNK), np.int64)
    hash_texts(KINDS.index(kind), np.uint64(seed), columns, starts, out, wrong)
    found = wrong[wrong >= 0]
    if not len(found):
        return None
    column = int(np.searchsorted(starts, found.min(), side="right")) - 1
    return column, int(found.min() - starts[column])
