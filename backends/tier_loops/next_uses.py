"""Which planned call uses each key next.

Each key of a call has a position, counted on from call to call. A ring holds a number by position; a map holds the last
position of each key: open addressing, linear probing. Positions of past calls stay in the map until it is rebuilt; they
are below all others and ignored.

Sizes: n keys of a call, at most one of each; C places and positions of the ring, powers of two.
"""

from __future__ import annotations

import numpy as np

from recis_core.backends.numba_backend.compiled import compiled, inlined, prefetch
from recis_core.backends.tier_loops.disk_words import key_hash

FIRST = 1024
NEVER = np.int64(-1)
FREE = np.int64(-1)  # instead of a position
AHEAD = 12  # keys between a prefetch and its use


class NextUses:
    """Calls are noted in order, and forgotten in order."""

    def __init__(self) -> None:
        self._places, self._taken = _no_places(FIRST), 0
        self._ring = np.empty(FIRST, np.int64)
        self._oldest = self._end = 0  # positions of the calls to come

    def note(self, ids: np.ndarray, tables: np.ndarray, call: int) -> tuple[int, np.ndarray]:
        """Note a call after all noted ones. Returns its first position; and which of its keys, int64, no earlier planned
        call uses.
        """
        n, begin = len(ids), self._end
        self._widen_ring(n)
        self._widen_map(n)
        first = np.empty(n, np.int64)
        count, taken = _note(ids, tables, call, begin, self._oldest, *self._places, self._ring, first)
        self._taken += taken
        self._end += n
        return begin, first[:count]

    def noted(self, begin: int, count: int) -> np.ndarray:
        """int64 [count] from this position on: the call that uses the key next, or NEVER."""
        return self._ring[np.arange(begin, begin + count) & (len(self._ring) - 1)]

    def forget(self, position: int) -> None:
        """Drop the calls before this position."""
        self._oldest = position

    def _widen_ring(self, coming: int) -> None:
        live = np.arange(self._oldest, self._end)
        needed = len(live) + coming
        if needed > len(self._ring):
            wider = np.empty(_power(2 * needed), np.int64)
            wider[live & (len(wider) - 1)] = self._ring[live & (len(self._ring) - 1)]
            self._ring = wider

    def _widen_map(self, coming: int) -> None:
        ids, tables, positions = self._places
        if 2 * (self._taken + coming) <= len(positions):
            return
        live = np.flatnonzero(positions >= self._oldest)
        places = _no_places(_power(4 * (len(live) + coming)))
        _put(ids[live], tables[live], positions[live], *places)
        self._places, self._taken = places, len(live)


def _power(least: int) -> int:
    return 1 << max(FIRST.bit_length() - 1, (least - 1).bit_length())


def _no_places(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.empty(count, np.int64), np.empty(count, np.int32), np.full(count, FREE)


@compiled
def _note(ids, tables, call, begin, oldest, held_ids, held_tables, positions, ring, first):  # type: ignore[no-untyped-def]
    """How many keys are in `first`, and how many places were taken."""
    last, count, taken = len(ring) - 1, 0, 0
    for i in range(len(ids)):
        _prefetch_ahead(ids, tables, i + AHEAD, held_ids, held_tables, positions)
        at = _place_of(ids[i], tables[i], held_ids, held_tables, positions)
        before = positions[at]
        if before == FREE:
            held_ids[at], held_tables[at] = ids[i], tables[i]
            taken += 1
        if before >= oldest:
            ring[before & last] = call
        else:
            first[count] = i
            count += 1
        positions[at] = begin + i
        ring[(begin + i) & last] = NEVER
    return count, taken


@compiled
def _put(ids, tables, new, held_ids, held_tables, positions):  # type: ignore[no-untyped-def]
    for i in range(len(ids)):
        _prefetch_ahead(ids, tables, i + AHEAD, held_ids, held_tables, positions)
        at = _place_of(ids[i], tables[i], held_ids, held_tables, positions)
        held_ids[at], held_tables[at], positions[at] = ids[i], tables[i], new[i]


@inlined
def _prefetch_ahead(ids, tables, i, held_ids, held_tables, positions):  # type: ignore[no-untyped-def]
    if i < len(ids):
        at = _home(ids[i], tables[i], len(positions))
        prefetch(held_ids, 8 * at)
        prefetch(held_tables, 4 * at)
        prefetch(positions, 8 * at)


@inlined
def _home(id_, table, size):  # type: ignore[no-untyped-def]
    return np.int64(key_hash(id_, table) & np.uint64(size - 1))


@inlined
def _place_of(id_, table, held_ids, held_tables, positions):  # type: ignore[no-untyped-def]
    """The key's place, or the free one that it would take."""
    last, left = len(positions) - 1, len(positions)
    at = _home(id_, table, len(positions))
    while positions[at] != FREE and (held_ids[at] != id_ or held_tables[at] != table) and left > 0:
        at = (at + 1) & last
        left -= 1
    return at
