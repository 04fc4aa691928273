"""Growth of the index: every key moves by the next bit of the word that placed it, so nothing can overflow.

Sizes: S buckets, W ways.
"""

from __future__ import annotations

import numpy as np

from recis_core.backends import placement
from recis_core.backends.numba_backend.compiled import compiled
from recis_core.backends.numba_backend.hashing import bucket_words
from recis_core.backends.numba_backend.key_order import key_order
from recis_core.backends.numba_backend.place import place_free
from recis_core.backends.numba_backend.state import Index, TableState, empty_index
from recis_core.backends.numba_backend.write import write_entries
from recis_core.backends.whole import Undo

WAYS = placement.WAYS


def grow(state: TableState, undo: Undo, incoming: int) -> None:
    """Before `incoming` ids are looked up: double the buckets as often as placement says."""
    if not state.spec.grows:
        return
    target = placement.grown_buckets(state.index.buckets, state.used, incoming)
    if target > state.index.buckets:
        index = _grown(state, target)
        undo.grown(index)
        state.index = index


def _grown(state: TableState, target: int) -> Index:
    index, grown = state.index, empty_index(target)
    _move(index.entries, index.tags, state.uids, grown.entries, grown.tags)
    _place_stash(state, grown, index.entries[index.ways : index.ways + index.stashed])
    return grown


@compiled
def _move(entries, tags, uids, grown_entries, grown_tags):  # type: ignore[no-untyped-def]
    S, mask = len(tags) // WAYS, np.uint32(len(grown_tags) // WAYS - 1)
    one_id, one_table = np.empty(1, np.int64), np.empty(1, np.int32)
    a, b = np.empty(1, np.uint32), np.empty(1, np.uint32)
    for e in range(len(tags)):
        if tags[e] != 0:
            one_id[0], one_table[0] = entries[e].id, entries[e].table
            bucket_words(one_id, one_table, uids, 0, 1, a, b)
            by_a = np.int64(a[0] & np.uint32(S - 1)) == e // WAYS
            to = np.int64((a[0] if by_a else b[0]) & mask) * WAYS + e % WAYS
            grown_entries[to] = entries[e]
            grown_tags[to] = tags[e]


def _place_stash(state: TableState, grown: Index, stash: np.ndarray) -> None:
    """The stash in key order: into free ways; what finds none stays in the stash, in that order."""
    if not len(stash):
        return
    stash = stash[key_order(np.ascontiguousarray(stash["id"]), np.ascontiguousarray(stash["table"]), state.ranks)]
    ids, tables, rows = (np.ascontiguousarray(stash[name]) for name in ("id", "table", "row"))
    a, b = np.empty(len(ids), np.uint32), np.empty(len(ids), np.uint32)
    bucket_words(ids, tables, state.uids, 0, len(ids), a, b)
    entry = place_free(grown, a, b)
    waits = np.flatnonzero(entry < 0)
    entry[waits] = grown.ways + np.arange(len(waits))
    grown.stashed = len(waits)
    write_entries(grown.entries, grown.tags, entry, ids, tables, rows, a, 0, 0)
    grown.entries["score"][entry], grown.entries["stamp"][entry] = stash["score"], stash["stamp"]
