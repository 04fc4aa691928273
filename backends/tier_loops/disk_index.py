"""Where keys lie in a log of segments: open addressing in partitions, a fingerprint byte a slot in memory.

Slots go in groups of eight, whose fingerprints make one word. A key's hash names its partition, its first group and
its fingerprint; a probe goes from group to group until one has a free slot. So a miss reads memory alone, but for one
key in 250 a group; a hit reads one entry, 16 bytes that lie on one cache line.

Sizes: N keys of a call, P partitions, G groups of a partition at most. `counts`, int64 [P, 2], has each partition's slots
in use, erased ones among them, and its keys.
"""

from __future__ import annotations

import numpy as np

from recis_core.backends.numba_backend.compiled import compiled, inlined, prefetch, trailing_zeros
from recis_core.backends.tier_loops.disk_words import HALF, LOW_HALF, ONE, key_hash

KEY = np.dtype([("id", "i8"), ("table", "i4")])  # 12 bytes; of a tombstone, table is ~table
ENTRY = np.dtype([("id", "i8"), ("place", "u8")])  # from high to low: 20 bits of table, 22 of segment, 22 of row
TABLES, SEGMENTS, ROWS = 1 << 20, 1 << 22, 1 << 22  # that an entry can tell apart
P = 256
G = 1 << 21  # addresses only: memory and disk count once they are used
CHUNK = 16  # groups of one partition that lie together; the next chunk is behind all partitions' chunks of this number
GROUP = 8
BLOCK = 64  # keys whose cache lines are asked for together
FREE, ERASED = np.uint64(0), np.uint64(1)
FINGERPRINTS = np.uint64(254)  # 2 to 255
LOW_BITS = np.uint64(0x0101010101010101)
HIGH_BITS = np.uint64(0x8080808080808080)
TO_PARTITION, TO_FINGERPRINT = np.uint64(56), np.uint64(40)
TABLE_AT, SEGMENT_AT = np.uint64(44), np.uint64(22)
SEGMENT_BITS = ROW_BITS = np.uint64(ROWS - 1)
BYTE_BITS, BYTE, TWO_BYTES, SIXTEEN = np.uint64(3), np.uint64(255), np.uint64(0xFFFF), np.uint64(16)


@inlined
def _partition_of(h):  # type: ignore[no-untyped-def]
    return np.int64(h >> TO_PARTITION)


@inlined
def _group_of(h, groups):  # type: ignore[no-untyped-def]
    """The first group of a hash, below `groups`, which may be any number."""
    return np.int64(((h & LOW_HALF) * np.uint64(groups)) >> HALF)


@inlined
def _word_of(p, g):  # type: ignore[no-untyped-def]
    """The position of group g of partition p: used groups are adjacent while partitions have similar sizes."""
    return ((g // CHUNK) * P + p) * CHUNK + g % CHUNK


@inlined
def _fingerprint_of(h):  # type: ignore[no-untyped-def]
    return ERASED + ONE + ((((h >> TO_FINGERPRINT) & TWO_BYTES) * FINGERPRINTS) >> SIXTEEN)


@inlined
def _hits(word, pattern):  # type: ignore[no-untyped-def]
    """The high bit of every byte equal to the pattern's; in error that of a byte above one, too, but of no free or erased
    slot. Keys are compared afterwards."""
    differs = word ^ pattern
    return (differs - LOW_BITS) & ~differs & HIGH_BITS


@inlined
def _first_byte(hits):  # type: ignore[no-untyped-def]
    return np.int64(trailing_zeros(hits) >> BYTE_BITS)


@inlined
def _placed(table, segment, row):  # type: ignore[no-untyped-def]
    return np.uint64(table) << TABLE_AT | np.uint64(segment) << SEGMENT_AT | np.uint64(row)


@inlined
def _table_at(place):  # type: ignore[no-untyped-def]
    return np.int64(place >> TABLE_AT)


@inlined
def _segment_at(place):  # type: ignore[no-untyped-def]
    return np.int64(place >> SEGMENT_AT & SEGMENT_BITS)


@inlined
def _row_at(place):  # type: ignore[no-untyped-def]
    return np.int64(place & ROW_BITS)


@inlined
def _slot_of(id_, table, h, words, groups, entries):  # type: ignore[no-untyped-def]
    p = _partition_of(h)
    size, pattern = groups[p], _fingerprint_of(h) * LOW_BITS
    g = _group_of(h, size)
    for _ in range(size):
        at = _word_of(p, g)
        word = words[at]
        hits = _hits(word, pattern)
        while hits != FREE:
            e = at * GROUP + _first_byte(hits)
            if entries[e].id == id_ and _table_at(entries[e].place) == table:
                return e
            hits &= hits - ONE
        if _hits(word, FREE) != FREE:
            return np.int64(-1)
        g = g + 1 if g + 1 < size else 0
    return np.int64(-1)


@inlined
def _take_slot(h, words, groups, counts):  # type: ignore[no-untyped-def]
    """The first slot free or erased, now with the fingerprint of h; -1 if there is none."""
    p = _partition_of(h)
    g = _group_of(h, groups[p])
    for _ in range(groups[p]):
        at = _word_of(p, g)
        word = words[at]
        hits = _hits(word & ~LOW_BITS, FREE)
        if hits != FREE:
            slot = _first_byte(hits)
            shift = np.uint64(8 * slot)
            counts[p, 0] += (word >> shift) & BYTE == FREE
            counts[p, 1] += 1
            words[at] = (word & ~(BYTE << shift)) | (_fingerprint_of(h) << shift)
            return at * GROUP + slot
        g = g + 1 if g + 1 < groups[p] else 0
    return np.int64(-1)


@inlined
def _free_slot(e, words, counts):  # type: ignore[no-untyped-def]
    """Erase a slot: free in a group that has a free slot, where probes end anyway; elsewhere marked as erased."""
    at, shift = e // GROUP, np.uint64(8 * (e % GROUP))
    word = words[at]
    free, p = _hits(word, FREE) != FREE, at // CHUNK % P
    counts[p, 0] -= free
    counts[p, 1] -= 1
    words[at] = (word & ~(BYTE << shift)) | ((FREE if free else ERASED) << shift)


@inlined
def _prefetch_group(h, words, groups):  # type: ignore[no-untyped-def]
    p = _partition_of(h)
    prefetch(words, 8 * _word_of(p, _group_of(h, groups[p])))


@inlined
def _prefetch_entry(h, words, groups, entries):  # type: ignore[no-untyped-def]
    """The entry of the first equal fingerprint, most often the right one."""
    p = _partition_of(h)
    at = _word_of(p, _group_of(h, groups[p]))
    hits = _hits(words[at], _fingerprint_of(h) * LOW_BITS)
    if hits != FREE:
        prefetch(entries, (at * GROUP + _first_byte(hits)) * entries.itemsize)


@compiled
def find_keys(ids, tables, words, groups, entries, locations):  # type: ignore[no-untyped-def]
    """Fill locations, int64 [N] segment << 32 | row, or -1."""
    hashes = np.empty(BLOCK, np.uint64)
    for beg in range(0, len(ids), BLOCK):
        end = min(beg + BLOCK, len(ids))
        for i in range(beg, end):
            hashes[i - beg] = key_hash(ids[i], tables[i])
            _prefetch_group(hashes[i - beg], words, groups)
        for i in range(beg, end):
            _prefetch_entry(hashes[i - beg], words, groups, entries)
        for i in range(beg, end):
            e = _slot_of(ids[i], tables[i], hashes[i - beg], words, groups, entries)
            locations[i] = _segment_at(entries[e].place) << 32 | _row_at(entries[e].place) if e >= 0 else np.int64(-1)


@inlined
def _table_of(key):  # type: ignore[no-untyped-def]
    return key.table if key.table >= 0 else ~key.table


@compiled
def apply_keys(keys, segment, first, words, groups, counts, entries, live):  # type: ignore[no-untyped-def]
    """Apply a segment's records from row `first` on, in order: the last record of a key counts. Whether each found a slot."""
    whole = True
    hashes = np.empty(BLOCK, np.uint64)
    for beg in range(0, len(keys), BLOCK):
        end = min(beg + BLOCK, len(keys))
        for i in range(beg, end):
            hashes[i - beg] = key_hash(keys[i].id, _table_of(keys[i]))
            _prefetch_group(hashes[i - beg], words, groups)
        for i in range(beg, end):
            _prefetch_entry(hashes[i - beg], words, groups, entries)
        for i in range(beg, end):
            whole &= _apply_one(keys[i], hashes[i - beg], segment, first + i, words, groups, counts, entries, live)
    return whole


@inlined
def _apply_one(key, h, segment, row, words, groups, counts, entries, live):  # type: ignore[no-untyped-def]
    e = _slot_of(key.id, _table_of(key), h, words, groups, entries)
    if e >= 0:
        live[_segment_at(entries[e].place)] -= 1
    if key.table < 0:
        if e >= 0:
            _free_slot(e, words, counts)
        return True
    if e < 0:
        e = _take_slot(h, words, groups, counts)
        if e < 0:
            return False
        entries[e].id = key.id
    entries[e].place = _placed(key.table, segment, row)
    live[segment] += 1
    return True


@compiled
def count_keys(keys, counts):  # type: ignore[no-untyped-def]
    """Add to counts, int64 [P], the keys of each partition."""
    for i in range(len(keys)):
        counts[_partition_of(key_hash(keys[i].id, _table_of(keys[i])))] += 1


@compiled
def regroup(p, size, words, groups, counts, entries):  # type: ignore[no-untyped-def]
    """Rebuild partition p with `size` groups, without erased slots."""
    kept = np.empty(counts[p, 1], entries.dtype)
    n = 0
    for g in range(groups[p]):
        at = _word_of(p, g)
        for slot in range(GROUP):
            if (words[at] >> np.uint64(8 * slot)) & BYTE > ERASED:
                kept[n] = entries[at * GROUP + slot]
                n += 1
    for g in range(size):
        words[_word_of(p, g)] = FREE
    groups[p], counts[p, 0], counts[p, 1] = size, 0, 0
    for i in range(n):
        e = _take_slot(key_hash(kept[i].id, _table_at(kept[i].place)), words, groups, counts)
        if e >= 0:
            entries[e] = kept[i]


def bytes_for(groups: int) -> int:
    """Of entries, up to group `groups` of the last partition."""
    return -(-groups // CHUNK) * CHUNK * P * GROUP * ENTRY.itemsize
