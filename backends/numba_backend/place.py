"""Ways for new keys: backends.placement's rounds. A chunk's buckets are renumbered, so that scratch has the chunk's size.

Sizes: M new keys of a chunk, K distinct buckets among their candidates, S buckets, W ways.
"""

from __future__ import annotations

import numpy as np

from recis_core.backends import placement
from recis_core.backends.numba_backend.compiled import compiled, inlined, trailing_zeros
from recis_core.backends.numba_backend.find import WORDS, hits_in
from recis_core.backends.numba_backend.state import Index, TableState

WAYS = placement.WAYS
ROUNDS = placement.ROUNDS
NO_VICTIM = np.int64(2**40)
FREE = np.uint64(0)


def place(state: TableState, a: np.ndarray, b: np.ndarray, takers: int, pinned_from: int) -> np.ndarray:
    """An entry for each new key, int64 [M], or -1: free ways for the first `takers`, then victims if the spec evicts.

    a, b: the keys' bucket words, uint32 [M], in key order.
    """
    index = state.index
    first, second, buckets = _renumber(a, b, index.buckets, index.numbers)
    entry = np.full(len(a), -1, np.int64)
    order, limit = _free_ways(buckets, index.tag_words)
    none = np.zeros((0, WAYS), np.int64)
    _run_rounds(first, second, buckets, order, limit, none, False, min(takers, len(a)), entry)
    if state.spec.evict and (entry < 0).any():
        order, limit, scores = _victims(buckets, index.tags, index.entries, state.ranks, pinned_from)
        _run_rounds(first, second, buckets, order, limit, scores, True, len(a), entry)
    return entry


def place_free(index: Index, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Free ways only, for all keys."""
    first, second, buckets = _renumber(a, b, index.buckets, index.numbers)
    entry = np.full(len(a), -1, np.int64)
    order, limit = _free_ways(buckets, index.tag_words)
    _run_rounds(first, second, buckets, order, limit, np.zeros((0, WAYS), np.int64), False, len(a), entry)
    return entry


@compiled
def _renumber(a, b, S, numbers):  # type: ignore[no-untyped-def]
    """(first, second: int32 [M] places in buckets; buckets: int64 [K]); `numbers` is -1 again at the end."""
    M, K, mask = len(a), 0, np.uint32(S - 1)
    first, second = np.empty(M, np.int32), np.empty(M, np.int32)
    buckets = np.empty(2 * M, np.int64)
    for i in range(M):
        K = _numbered(np.int64(a[i] & mask), numbers, buckets, K)
        K = _numbered(np.int64(b[i] & mask), numbers, buckets, K)
        first[i], second[i] = numbers[a[i] & mask], numbers[b[i] & mask]
    for k in range(K):
        numbers[buckets[k]] = -1
    return first, second, buckets[:K].copy()


@inlined
def _numbered(bucket, numbers, buckets, K):  # type: ignore[no-untyped-def]
    if numbers[bucket] >= 0:
        return K
    numbers[bucket] = K
    buckets[K] = bucket
    return K + 1


@compiled
def _free_ways(buckets, words):  # type: ignore[no-untyped-def]
    """(ways int8 [K, W], the free ones first and by number; how many int32 [K])."""
    order, limit = np.empty((len(buckets), WAYS), np.int8), np.zeros(len(buckets), np.int32)
    for k in range(len(buckets)):
        for word in range(WORDS):
            free = hits_in(words[buckets[k] * WORDS + word], FREE)
            while free != FREE:
                order[k, limit[k]] = word * 8 + np.int64(trailing_zeros(free) >> np.uint64(3))
                limit[k] += 1
                free &= free - np.uint64(1)
    return order, limit


@compiled
def _victims(buckets, tags, entries, ranks, pinned_from):  # type: ignore[no-untyped-def]
    """(unpinned occupied ways int8 [K, W] by (score, uid, id); how many int32 [K]; their scores int64 [K, W])."""
    K = len(buckets)
    order, limit, scores = np.empty((K, WAYS), np.int8), np.zeros(K, np.int32), np.empty((K, WAYS), np.int64)
    for k in range(K):
        base = buckets[k] * WAYS
        for way in range(WAYS):
            if tags[base + way] != 0 and entries[base + way].stamp < pinned_from:
                _insert_victim(entries, ranks, base, way, order[k], limit[k])
                limit[k] += 1
        for n in range(limit[k]):
            scores[k, n] = entries[base + order[k, n]].score
    return order, limit, scores


@compiled
def _insert_victim(entries, ranks, base, way, order, count):  # type: ignore[no-untyped-def]
    """Insertion sort: at most 16."""
    n = count
    while n > 0 and _goes_before(entries[base + way], entries[base + order[n - 1]], ranks):
        order[n] = order[n - 1]
        n -= 1
    order[n] = way


@inlined
def _goes_before(one, other, ranks):  # type: ignore[no-untyped-def]
    if one.score != other.score:
        return one.score < other.score
    if one.table != other.table:
        return ranks[one.table] < ranks[other.table]
    return one.id < other.id


@compiled
def _run_rounds(first, second, buckets, order, limit, scores, evicting, takers, entry):  # type: ignore[no-untyped-def]
    """Fill `entry`: in each round a bucket takes at most half of what it has left, in the last round all."""
    used, taken = np.zeros(len(buckets), np.int32), np.zeros(len(buckets), np.int32)
    pending, asked = np.empty(takers, np.int32), np.empty(takers, np.int32)
    count = _list_pending(entry, takers, pending)
    for r in range(ROUNDS):
        still = 0
        for j in range(count):
            i = pending[j]
            k = _choose(first[i], second[i], limit, used, scores, evicting)
            asked[j] = k
            if taken[k] < _quota(limit[k] - used[k], r):
                entry[i] = buckets[k] * WAYS + order[k, used[k] + taken[k]]
            else:
                pending[still] = i
                still += 1
            taken[k] += 1
        for j in range(count):
            k = asked[j]
            used[k] += min(taken[k], _quota(limit[k] - used[k], r))
            taken[k] = 0
        count = still


@compiled
def _list_pending(entry, takers, pending):  # type: ignore[no-untyped-def]
    count = 0
    for i in range(takers):
        if entry[i] < 0:
            pending[count] = i
            count += 1
    return count


@inlined
def _quota(left, r):  # type: ignore[no-untyped-def]
    return left if r == ROUNDS - 1 else (left + 1) // 2


@inlined
def _choose(first, second, limit, used, scores, evicting):  # type: ignore[no-untyped-def]
    """The bucket a key asks; ties go to the first."""
    if not evicting:
        return first if limit[first] - used[first] >= limit[second] - used[second] else second
    next_first = scores[first, used[first]] if used[first] < limit[first] else NO_VICTIM
    next_second = scores[second, used[second]] if used[second] < limit[second] else NO_VICTIM
    return first if next_first <= next_second else second
