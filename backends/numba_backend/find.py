"""Where keys are: two candidate buckets of 16 ways, their tags compared eight at a time, then the stash.

A miss reads two lines of tags, a hit one entry more.

Sizes: U unique keys, S buckets, W ways.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import prange

from recis_core.backends import placement
from recis_core.backends.numba_backend.compiled import compiled, compiled_parallel, inlined, prefetch, trailing_zeros
from recis_core.backends.numba_backend.hashing import bucket_words, tag_of
from recis_core.backends.numba_backend.scratch import columns
from recis_core.backends.numba_backend.state import Index, TableState
from recis_core.backends.spec import Clock
from recis_core.backends.whole import Undo

WAYS = placement.WAYS
WORDS = WAYS // 8  # of tags in a bucket
BLOCK = 512  # keys a thread takes at a time
AT_ONCE = 4096  # entries taken back at a time
LOW_BITS = np.uint64(0x0101010101010101)
HIGH_BITS = np.uint64(0x8080808080808080)


@dataclass(frozen=True)
class Found:
    """Of each key: its entry and row, -1 for unknown; and the entry's score and stamp before a touch."""

    entries: np.ndarray  # int64 [U]
    rows: np.ndarray  # int32 [U]
    scores: np.ndarray  # int32 [U]
    stamps: np.ndarray  # int32 [U]
    a: np.ndarray  # uint32 [U], bucket words
    b: np.ndarray  # uint32 [U]
    touched: np.ndarray  # bool [1], whether scores and stamps were written


def find(
    state: TableState, ids: np.ndarray, tables: np.ndarray, clock: Clock | None, undo: Undo | None = None
) -> Found:
    """Find unique keys; with a clock, touch the found ones."""
    U, index = len(ids), state.index
    arrays = columns(U, np.int64, np.int32, np.int32, np.int32, np.uint32, np.uint32)
    found = Found(*arrays, np.zeros(1, np.bool_))
    if undo is not None and clock is not None:
        undo.note(untouch, index, found)
    _find_all(
        ids, tables, state.uids, index.tag_words, index.entries, index.stashed, clock is not None,
        clock.step if clock else 0, state.spec.score == "count",
        found.entries, found.rows, found.scores, found.stamps, found.a, found.b, found.touched,
    )  # fmt: skip
    return found


def not_found(state: TableState, ids: np.ndarray, tables: np.ndarray) -> Found:
    """As find, for keys that are known to be absent."""
    U, nothing = len(ids), np.zeros(0, np.int32)
    rows, (a, b) = np.full(U, -1, np.int32), columns(U, np.uint32, np.uint32)
    bucket_words(ids, tables, state.uids, 0, U, a, b)
    return Found(np.full(U, -1, np.int64), rows, nothing, nothing, a, b, np.zeros(1, np.bool_))


def untouch(index: Index, found: Found) -> None:
    """Restore scores and stamps from before a touch, a few entries at a time: memory may be short."""
    for beg in range(0, len(found.entries) if found.touched[0] else 0, AT_ONCE):
        entries = found.entries[beg : beg + AT_ONCE]
        known = entries >= 0
        index.entries["score"][entries[known]] = found.scores[beg : beg + AT_ONCE][known]
        index.entries["stamp"][entries[known]] = found.stamps[beg : beg + AT_ONCE][known]


@compiled_parallel
def _find_all(  # type: ignore[no-untyped-def]
    ids, tables, uids, words, entries, stashed, touch, step, counts, found, rows, scores, stamps, a, b, touched
):  # fmt: skip
    U = len(ids)
    touched[0] = touch
    for block in prange((U + BLOCK - 1) // BLOCK):
        beg, end = block * BLOCK, min(block * BLOCK + BLOCK, U)
        bucket_words(ids, tables, uids, beg, end, a, b)
        _probe_tags(a, b, words, entries, beg, end, found)
        _compare_keys(ids, tables, a, b, words, entries, stashed, beg, end, found, rows)
        if touch:
            _touch(entries, beg, end, found, step, counts, scores, stamps)


@compiled
def _probe_tags(a, b, words, entries, beg, end, found):  # type: ignore[no-untyped-def]
    """Each key's first entry of equal tag, or -1. A pass of its own before entries are read, so that many reads overlap."""
    mask = np.uint32(len(words) // WORDS - 1)
    for u in range(beg, end):
        prefetch(words, np.int64(a[u] & mask) * WAYS)
        prefetch(words, np.int64(b[u] & mask) * WAYS)
    for u in range(beg, end):
        pattern = np.uint64(tag_of(a[u])) * LOW_BITS
        word = np.int64(a[u] & mask) * WORDS
        e = _first_hit(word, words[word], words[word + 1], pattern)
        if e < 0:
            word = np.int64(b[u] & mask) * WORDS
            e = _first_hit(word, words[word], words[word + 1], pattern)
        found[u] = e
        # An entry of 24 bytes may lie on two lines.
        prefetch(entries, max(e, 0) * entries.itemsize)
        prefetch(entries, max(e, 0) * entries.itemsize + entries.itemsize - 1)


@compiled
def _compare_keys(ids, tables, a, b, words, entries, stashed, beg, end, found, rows):  # type: ignore[no-untyped-def]
    for u in range(beg, end):
        e = found[u]
        same = e >= 0 and entries[e].id == ids[u] and entries[e].table == tables[u]
        if not same and (e >= 0 or stashed > 0):
            e = _find_one(ids[u], tables[u], a[u], b[u], words, entries, stashed)
            found[u] = e
        rows[u] = entries[e].row if e >= 0 else -1


@compiled
def _touch(entries, beg, end, found, step, counts, scores, stamps):  # type: ignore[no-untyped-def]
    for u in range(beg, end):
        e = found[u]
        if e >= 0:
            scores[u], stamps[u] = entries[e].score, entries[e].stamp
            entries[e].score = scores[u] + 1 if counts else step
            entries[e].stamp = step


@inlined
def _is_key(entries, e, id_, table):  # type: ignore[no-untyped-def]
    return e >= 0 and entries[e].id == id_ and entries[e].table == table


@inlined
def hits_in(word, pattern):  # type: ignore[no-untyped-def]
    """The high bit of exactly those bytes that equal the pattern's: a free way may still hold its last key."""
    differs = word ^ pattern
    return ~(((differs & ~HIGH_BITS) + ~HIGH_BITS) | differs | ~HIGH_BITS)


@inlined
def _first_hit(word, tags, next_tags, pattern):  # type: ignore[no-untyped-def]
    """The first entry of equal tag in a bucket whose tags begin at `word`, or -1."""
    hits = hits_in(tags, pattern)
    if hits == np.uint64(0):
        word, hits = word + 1, hits_in(next_tags, pattern)
    return word * 8 + np.int64(trailing_zeros(hits) >> np.uint64(3)) if hits != np.uint64(0) else np.int64(-1)


@compiled
def _find_one(id_, table, a, b, words, entries, stashed):  # type: ignore[no-untyped-def]
    S = len(words) // WORDS
    mask = np.uint32(S - 1)
    pattern = np.uint64(tag_of(a)) * LOW_BITS
    e = _find_in_bucket(id_, table, np.int64(a & mask), pattern, words, entries)
    if e < 0:
        e = _find_in_bucket(id_, table, np.int64(b & mask), pattern, words, entries)
    for k in range(S * WAYS, S * WAYS + stashed):
        if e < 0 and _is_key(entries, k, id_, table):
            e = k
    return e


@compiled
def _find_in_bucket(id_, table, bucket, pattern, words, entries):  # type: ignore[no-untyped-def]
    for word in range(bucket * WORDS, bucket * WORDS + WORDS):
        hits = hits_in(words[word], pattern)
        while hits != np.uint64(0):
            e = word * 8 + np.int64(trailing_zeros(hits) >> np.uint64(3))
            if _is_key(entries, e, id_, table):
                return e
            hits &= hits - np.uint64(1)
    return np.int64(-1)
