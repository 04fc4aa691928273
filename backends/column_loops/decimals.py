"""Hashes of the decimal text of int64 ids, written into a few bytes and hashed there.

Sizes: C columns, N ids of all columns, J hashes of an id.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from recis_core.backends.column_loops.addresses import begin_of, column_of, int64_at, turns_for
from recis_core.backends.column_loops.byte_hashes import DJB2 as DJB2_BASE
from recis_core.backends.column_loops.byte_hashes import DJB2_START, SDBM_START, polynomial
from recis_core.backends.column_loops.byte_hashes import SDBM as SDBM_BASE
from recis_core.backends.column_loops.farmhash import farm64
from recis_core.backends.column_loops.hash_texts import FARM, MURMUR, SDBM
from recis_core.backends.column_loops.murmur import murmur64
from recis_core.backends.numba_backend.compiled import compiled, compiled_parallel, inlined

CHUNK = 2048  # ids a thread takes at a time
LONGEST = 20  # characters of an int64
TEN, ZERO, NO_SEED = np.uint64(10), np.uint64(ord("0")), np.uint64(0)
MINUS = np.uint8(ord("-"))


@inlined
def write_decimal(id_, text, end):  # type: ignore[no-untyped-def]
    """The decimal text of an id into text, uint8, up to `end`; where it begins."""
    rest, at = np.uint64(id_) if id_ >= 0 else np.uint64(0) - np.uint64(id_), end
    while True:
        at -= 1
        text[at] = np.uint8(ZERO + rest % TEN)
        rest = rest // TEN
        if rest == np.uint64(0):
            break
    if id_ < 0:
        at -= 1
        text[at] = MINUS
    return at


@inlined
def _hash_of(kind, address, length):  # type: ignore[no-untyped-def]
    if kind == FARM:
        return farm64(address, length)
    if kind == MURMUR:
        return murmur64(address, length, NO_SEED)
    if kind == SDBM:
        return polynomial(address, length, SDBM_BASE, SDBM_START)
    return polynomial(address, length, DJB2_BASE, DJB2_START)


@compiled
def _fill(ids, starts, prefixes, prefix_at, kinds, mods, outs, beg, end, out):  # type: ignore[no-untyped-def]
    """Hashes of ids beg to end of all. The prefix lies just before the digits, so it moves with their number."""
    widest = 0
    for c in range(len(prefix_at) - 1):
        widest = max(widest, prefix_at[c + 1] - prefix_at[c])
    text = np.empty(widest + LONGEST, np.uint8)
    base, last = text.ctypes.data, len(text)
    c = column_of(starts, beg)
    for n in range(beg, end):
        while n >= starts[c + 1]:
            c += 1
        i, size = n - starts[c], starts[c + 1] - starts[c]
        at = write_decimal(int64_at(ids[c] + 8 * i), text, last)
        for k in range(prefix_at[c + 1] - 1, prefix_at[c] - 1, -1):
            at -= 1
            text[at] = prefixes[k]
        for j in range(kinds.shape[1]):
            if kinds[c, j] >= 0:
                h = _hash_of(kinds[c, j], base + at, last - at)
                out[outs[c] + j * size + i] = np.int64(h % mods[c, j] if mods[c, j] != NO_SEED else h)


@compiled_parallel
def _hash_all(ids, starts, prefixes, prefix_at, kinds, mods, outs, out, turns):  # type: ignore[no-untyped-def]
    N = starts[-1]
    for turn in prange(turns):
        beg = begin_of(turn, turns, CHUNK)
        if beg < N:
            _fill(ids, starts, prefixes, prefix_at, kinds, mods, outs, beg, min(beg + CHUNK, N), out)


def hash_decimals(  # type: ignore[no-untyped-def]
    ids: np.ndarray, starts: np.ndarray, prefixes: list[bytes], kinds: np.ndarray, mods: np.ndarray, outs, out
) -> None:
    """ids int64 [C], addresses. kinds int64 [C, J], -1 for no hash; mods uint64 [C, J], 0 for none. Hash j of id i of column c
    goes to out[outs[c] + j · size of c + i]."""
    prefix_at = np.cumsum([0, *map(len, prefixes)])
    letters = np.frombuffer(b"".join(prefixes), np.uint8).copy()
    _hash_all(ids, starts, letters, prefix_at, kinds, mods, outs, out, turns_for(int(starts[-1]), CHUNK))
