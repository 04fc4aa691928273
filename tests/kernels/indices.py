"""Keys, and an index as plain Python: dicts and lists, one key at a time. Shares no code with the kernels.

Sizes: S buckets, W ways.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from recis_core.pallas_kernels import Format, Index, Keys, Settings

FORM = Format(0x9E3779B9, 0x7F4A7C15, 0x6A09E667, 0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35, rounds=8, chunk=64)
MASK = 0xFFFFFFFF
NO_LIMIT = 2**31 - 1


def keys_of(pairs):
    """Keys of (uid, signed id) pairs."""
    uids = np.array([uid for uid, _ in pairs], np.uint32)
    bits = np.array([id_ for _, id_ in pairs], np.int64).view(np.uint64)
    return Keys(*(jnp.asarray(x) for x in (bits.astype(np.uint32), (bits >> np.uint64(32)).astype(np.uint32), uids)))


def pairs_of(keys):
    lo, hi, uids = (np.asarray(x) for x in keys)
    ids = (hi.astype(np.uint64) << np.uint64(32) | lo).view(np.int64)
    return list(zip(uids.tolist(), ids.tolist(), strict=True))


def settings(count, step=1, pinned_from=0, score=1, max_rows=NO_LIMIT):
    return Settings(*(jnp.int32(x) for x in (count, max_rows, step, pinned_from, score)))


def mix(h):
    h ^= h >> 16
    h = h * FORM.mix_1 & MASK
    h ^= h >> 13
    h = h * FORM.mix_2 & MASK
    return h ^ h >> 16


def word(key, salt):
    uid, bits = key[0], key[1] & (1 << 64) - 1
    h = mix(bits & MASK ^ salt)
    h = mix(h + (bits >> 32) & MASK)
    return mix(h + uid * FORM.multiplier & MASK)


def random_pairs(rng, count):
    """Distinct, in key order, ids over all 64 bits, three groups."""
    found = {(int(rng.integers(3)), int(rng.integers(-(2**63), 2**63 - 1))) for _ in range(count)}
    return sorted(found)


class Model:
    """What an index holds: entry -> [key, row, score, stamp]; and its rows."""

    def __init__(self, buckets, ways, stash=16):
        self.buckets, self.ways, self.stash = buckets, ways, stash
        self.held, self.free, self.next_row, self.stashed = {}, [], 0, 0

    def candidates(self, key):
        return [word(key, salt) % self.buckets for salt in (FORM.a_salt, FORM.b_salt)]

    def insert(self, keys, step=1, pinned_from=0, score=1, max_rows=NO_LIMIT, evict=False):
        """Rows of new keys in key order and [(key, row)] evicted; None, and nothing changed, where there is no room."""
        before = ({e: list(h) for e, h in self.held.items()}, list(self.free), self.next_row, self.stashed)
        rows, evicted = [], []
        for begin in range(0, len(keys), FORM.chunk):
            if not self._chunk(
                keys[begin : begin + FORM.chunk], step, pinned_from, score, max_rows, evict, rows, evicted
            ):
                self.held, self.free, self.next_row, self.stashed = before
                return None
        return rows, evicted

    def _chunk(self, keys, step, pinned_from, score, max_rows, evict, rows, evicted):
        room = max_rows - (self.next_row - len(self.free))
        entry = dict.fromkeys(range(len(keys)))
        self._phase(keys, entry, list(range(min(len(keys), room))), None)
        if evict:
            self._phase(keys, entry, [i for i in entry if entry[i] is None], pinned_from)
        fresh = [i for i in entry if entry[i] is None or entry[i] not in self.held]
        waiting = [i for i in entry if entry[i] is None]
        if len(fresh) > room or len(waiting) > self.stash - self.stashed:
            return False
        for i, key in enumerate(keys):
            at = entry[i]
            if at is None:
                at = self.buckets * self.ways + self.stashed
                self.stashed += 1
            if at in self.held:
                evicted.append((self.held[at][0], self.held[at][1]))
                row = self.held[at][1]
            elif self.free:
                row = self.free.pop()
            else:
                row, self.next_row = self.next_row, self.next_row + 1
            self.held[at] = [key, row, score, step]
            rows.append(row)
        return True

    def _phase(self, keys, entry, pending, pinned_from):
        """pinned_from None: free ways; else victims."""
        used, offers = {}, {}
        for i in pending:
            for t in self.candidates(keys[i]):
                offers[t] = self._offer(t, pinned_from)
        for r in range(FORM.rounds):
            ranks, won = {}, []
            for i in pending:
                t = self._choose(self.candidates(keys[i]), offers, used, pinned_from)
                left = len(offers[t]) - used.get(t, 0)
                rank = ranks.get(t, 0)
                ranks[t] = rank + 1
                if rank < (left if r == FORM.rounds - 1 else (left + 1) // 2):
                    won.append((i, t, offers[t][used.get(t, 0) + rank]))
            for i, t, way in won:
                entry[i] = t * self.ways + way
                used[t] = used.get(t, 0) + 1
            pending = [i for i in pending if entry[i] is None]

    def _offer(self, t, pinned_from):
        entries = range(t * self.ways, (t + 1) * self.ways)
        if pinned_from is None:
            return [e % self.ways for e in entries if e not in self.held]
        usable = [e for e in entries if e in self.held and self.held[e][3] < pinned_from]
        return [e % self.ways for e in sorted(usable, key=lambda e: (self.held[e][2], self.held[e][0]))]

    def _choose(self, both, offers, used, pinned_from):
        a, b = both
        left = [len(offers[t]) - used.get(t, 0) for t in both]
        if pinned_from is None:
            return a if left[0] >= left[1] else b
        following = [
            self.held[t * self.ways + offers[t][used.get(t, 0)]][2] if n > 0 else float("inf")
            for t, n in zip(both, left, strict=True)
        ]
        return b if following[1] < following[0] else a

    def index(self, rows=1000):
        """The same as arrays."""
        ways = self.buckets * self.ways
        entries = ways + self.stash
        tags = np.zeros(ways, np.uint32)
        fields = {name: np.zeros(entries, np.uint32) for name in ("lo", "hi", "uids")}
        numbers = {name: np.full(entries, -1, np.int32) for name in ("rows", "scores", "stamps")}
        for at, (key, row, score, stamp) in self.held.items():
            bits = key[1] & (1 << 64) - 1
            for name, value in zip(fields, (bits & MASK, bits >> 32, key[0]), strict=True):
                fields[name][at] = value
            for name, value in zip(numbers, (row, score, stamp), strict=True):
                numbers[name][at] = value
            if at < ways:
                tags[at] = word(key, FORM.tag_salt)
        free = np.zeros(rows, np.int32)
        free[: len(self.free)] = self.free
        counts = (np.int32(len(self.free)), np.int32(self.next_row), np.int32(self.stashed))
        arrays = (tags.reshape(self.buckets, self.ways), *fields.values(), *numbers.values(), free, *counts)
        return Index(*(jnp.asarray(x) for x in arrays), jnp.zeros(self.buckets, jnp.int32), None)


def content(index):
    """What an index holds, as Model.held; its fingerprints checked."""
    rows = np.asarray(index.rows)
    held = {}
    pairs = pairs_of((index.lo, index.hi, index.uids))
    tags, scores, stamps = (np.asarray(x).reshape(-1) for x in (index.tags, index.scores, index.stamps))
    for at in np.flatnonzero(rows >= 0).tolist():
        held[at] = [pairs[at], int(rows[at]), int(scores[at]), int(stamps[at])]
        if at < index.ways and tags[at] != word(pairs[at], FORM.tag_salt):
            raise AssertionError(f"entry {at} has another key's fingerprint")
    return held
