"""A number for each key, for as long as it is wanted: open addressing, linear probing, places closed up after a key goes.

Sizes: n keys of a call, at most one of each; C places, a power of two.
"""

from __future__ import annotations

import numpy as np

from backends.numba_backend.compiled import compiled, inlined, prefetch
from backends.numba_backend.disk_words import key_hash

FIRST_PLACES = 1024
NONE = np.int64(-1)
AHEAD = 12  # keys between a prefetch and its use


class KeyMap:
    """Numbers are at least 0."""

    def __init__(self) -> None:
        self._count = np.zeros(1, np.int64)
        self._places = _empty(FIRST_PLACES)

    def __len__(self) -> int:
        return int(self._count[0])

    def swap(self, ids: np.ndarray, tables: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Give keys these numbers; those they had, int64 [n], -1 for none."""
        self._make_room(len(ids))
        before = np.empty(len(ids), np.int64)
        _swap(ids, tables, numbers, *self._places, self._count, before)
        return before

    def drop(self, ids: np.ndarray, tables: np.ndarray, numbers: np.ndarray) -> None:
        """Forget the keys that still have these numbers."""
        _drop(ids, tables, numbers, *self._places, self._count)

    def _make_room(self, coming: int) -> None:
        needed = 2 * (len(self) + coming)
        if needed <= len(self._places[0]):
            return
        ids, tables, numbers = self._places
        held = numbers >= 0
        self._places = _empty(1 << (needed - 1).bit_length())
        self._count[0] = 0
        before = np.empty(int(held.sum()), np.int64)
        _swap(ids[held], tables[held], numbers[held], *self._places, self._count, before)


def _empty(places: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.empty(places, np.int64), np.empty(places, np.int32), np.full(places, NONE)


@compiled
def _swap(ids, tables, new, held_ids, held_tables, numbers, count, before):  # type: ignore[no-untyped-def]
    for i in range(len(ids)):
        _prefetch_ahead(ids, tables, i + AHEAD, held_ids, held_tables, numbers)
        at = _place_of(ids[i], tables[i], held_ids, held_tables, numbers)
        before[i] = numbers[at]
        if before[i] < 0:
            held_ids[at], held_tables[at] = ids[i], tables[i]
            count[0] += 1
        numbers[at] = new[i]


@compiled
def _drop(ids, tables, had, held_ids, held_tables, numbers, count):  # type: ignore[no-untyped-def]
    for i in range(len(ids)):
        _prefetch_ahead(ids, tables, i + AHEAD, held_ids, held_tables, numbers)
        at = _place_of(ids[i], tables[i], held_ids, held_tables, numbers)
        if numbers[at] == had[i]:
            _close_up(at, held_ids, held_tables, numbers)
            count[0] -= 1


@inlined
def _prefetch_ahead(ids, tables, i, held_ids, held_tables, numbers):  # type: ignore[no-untyped-def]
    if i < len(ids):
        at = _home(ids[i], tables[i], len(numbers))
        prefetch(held_ids, 8 * at)
        prefetch(held_tables, 4 * at)
        prefetch(numbers, 8 * at)


@inlined
def _home(id_, table, size):  # type: ignore[no-untyped-def]
    return np.int64(key_hash(id_, table) & np.uint64(size - 1))


@inlined
def _place_of(id_, table, held_ids, held_tables, numbers):  # type: ignore[no-untyped-def]
    """The key's place, or the free one that it would take."""
    last = len(numbers) - 1
    at = _home(id_, table, len(numbers))
    while numbers[at] >= 0 and (held_ids[at] != id_ or held_tables[at] != table):
        at = (at + 1) & last
    return at


@inlined
def _close_up(gap, held_ids, held_tables, numbers):  # type: ignore[no-untyped-def]
    """Later keys move into the gap unless they would then lie before their home."""
    last = len(numbers) - 1
    at = (gap + 1) & last
    while numbers[at] >= 0:
        home = _home(held_ids[at], held_tables[at], len(numbers))
        if ((at - home) & last) >= ((at - gap) & last):
            held_ids[gap], held_tables[gap], numbers[gap] = held_ids[at], held_tables[at], numbers[at]
            gap = at
        at = (at + 1) & last
    numbers[gap] = -1
