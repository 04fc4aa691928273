"""Placement format, version 1: where an id goes, the same on every backend.

An index of S buckets of W ways holds each key (table uid, id), its row number, score and stamp; rows
lie apart, so growing the index moves none. A key lives in one of two buckets, named by two hash words.

    place(new keys, unique, absent, ascending by (uid, signed id), in chunks of CHUNK):
      used[bucket] = 0
      for phase in FREE, then EVICT if the table may:
        ways of a bucket, frozen at the chunk's start:
          FREE   its free ways, by number              (for as many keys, in order, as rows are left)
          EVICT  its unpinned occupied ways, by (score, uid, id); used begins at 0 again
        for round in 0 .. ROUNDS - 1, while keys are pending, each looking at `used` as the round began:
          FREE   a key chooses the bucket with more ways left (tie: the first)
          EVICT  a key chooses the bucket whose next victim has the lower score (tie: the first; none left = inf)
          rank = the key's position among those that chose the same bucket, in order
          accepted if rank < ceil(left / 2), in the last round if rank < left; it takes way used + rank
      row = the victim's, else the next free one: last erased first, then row numbers never used
      a key that found no way still takes a row, and waits in the stash of STASH places

No compare-and-swap and no atomics, so the result depends on the keys alone. Found keys are stamped
before new ones are placed, and a way stamped at or after the clock's `pinned_from` is no victim.
Growth doubles S by the next bit of the word a key was placed by: nothing can overflow; then the
stash is placed anew. A change here moves ids and changes initial values, so the format's version is
saved with checkpoints. Full text: docs/placement.md; golden values: tests/contract/test_placement_format.py.

Sizes: N ids, S buckets, W ways.
"""

from __future__ import annotations

import numpy as np

VERSION = 1
WAYS = 16
ROUNDS = 8  # placement rounds in a phase; the last one may fill a bucket
CHUNK = 32_768  # new ids placed at a time, in key order
STASH = 1_024  # ids that found no way still get a row; their keys wait here
MAX_LOAD = (3, 4)  # grow before used + N would pass this share of S * W
SUM_CHUNK = 256  # occurrences summed into one fp32 partial, from the segment's start
SLICE_BITS = 16  # a shard owns slices of the hash, whatever the world size

SLICE_SALT = 0x2545F491
A_SALT = 0x9E3779B9
B_SALT = 0x7F4A7C15
TABLE_MULTIPLIER = 0x9E3779B1
MIX_1 = 0x85EBCA6B
MIX_2 = 0xC2B2AE35


def split_ids(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int64 ids [N] -> (hi, lo), their two uint32 halves."""
    bits = np.ascontiguousarray(ids, dtype=np.int64).view(np.uint64)
    return (bits >> np.uint64(32)).astype(np.uint32), bits.astype(np.uint32)


def mix(h: np.ndarray) -> np.ndarray:
    """MurmurHash3's 32-bit finalizer, on uint32."""
    h = h ^ (h >> np.uint32(16))
    h = h * np.uint32(MIX_1)
    h = h ^ (h >> np.uint32(13))
    h = h * np.uint32(MIX_2)
    return h ^ (h >> np.uint32(16))


def hash_word(hi: np.ndarray, lo: np.ndarray, uid: np.ndarray, salt: int) -> np.ndarray:
    """One word: a full chain over (lo, hi, table) for its salt, so words share no bits."""
    with np.errstate(over="ignore"):
        h = mix(lo ^ np.uint32(salt))
        h = mix(h + hi)
        return mix(h + uid * np.uint32(TABLE_MULTIPLIER))


def hash_words(ids: np.ndarray, uids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(slice, a, b) words, uint32 [N]; `uids` is uint32 [N] or a scalar."""
    hi, lo = split_ids(ids)
    uids = np.broadcast_to(np.asarray(uids, np.uint32), hi.shape)
    return tuple(hash_word(hi, lo, uids, salt) for salt in (SLICE_SALT, A_SALT, B_SALT))  # type: ignore[return-value]


def slices(ids: np.ndarray, uids: np.ndarray) -> np.ndarray:
    """The 16-bit slice of each key; a rank owns a contiguous run of slices."""
    return hash_words(ids, uids)[0] & np.uint32((1 << SLICE_BITS) - 1)


def initial_buckets(rows: int) -> int:
    """Smallest power-of-two bucket count that holds `rows` ids at the maximum load."""
    num, den = MAX_LOAD
    slots = -(-rows * den // num)
    return max(1, 1 << (-(-slots // WAYS) - 1).bit_length())


def grown_buckets(buckets: int, used: int, incoming: int) -> int:
    """Bucket count before `incoming` raw ids are looked up in a table that may grow.

    Depends only on counts that every backend knows exactly, so all grow at the same call.
    """
    num, den = MAX_LOAD
    while (used + incoming) * den > num * buckets * WAYS:
        buckets *= 2
    return buckets


def row_capacity(buckets: int) -> int:
    """The most rows that a table of so many buckets needs: the maximum load, and the stash."""
    num, den = MAX_LOAD
    return buckets * WAYS * num // den + STASH
