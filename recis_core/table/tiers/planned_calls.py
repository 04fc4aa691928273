"""Calls that a Prefetcher announced, in order, and for each of their keys the next of them that uses it.

    planned ── keys known ── read from disk ── staged: on the device, held ── taken by its forward
    number:  consumed + 3 …                    consumed + 1                   consumed

Sizes: U unique keys of a call.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from recis_core.backends import LookupCall
from recis_core.backends.numba_backend import partition
from recis_core.backends.numba_backend.partition import Unique
from recis_core.backends.tier_loops.columns import count_down, fill
from recis_core.backends.tier_loops.next_uses import NextUses
from recis_core.options.cache_policy import Lookahead
from recis_core.table.tiers.cache_stats import ON_DEVICE

if TYPE_CHECKING:
    from recis_core.table.tiers.cache_stats import CacheStats
    from recis_core.table.tiers.device_tier import DeviceTier


@dataclass
class Early:
    """Rows read from disk before they are needed: each key's place there when it was read, -1 for none, and its bytes."""

    places: np.ndarray  # int64 [U]
    at: np.ndarray  # int64 [U], into packed
    packed: np.ndarray  # uint8 [·, row_bytes]

    def pick(self, which: np.ndarray | slice) -> Early:
        return Early(self.places[which], self.at[which], self.packed)


@dataclass(eq=False)
class PlannedCall:
    """One call's unique keys."""

    number: int
    digest: bytes
    keys: Unique
    noted: int | None = None  # where its notes begin, if its uses were noted
    following: np.ndarray | None = None  # int64 [U], of a noted call once taken: the next call of each key, or NEVER
    early: Early | None = None
    rows: np.ndarray | None = None  # int32 [U], on the device; -1 for those that found no room
    holds: bool = False  # whether these rows stay there for it
    ready: bool = False  # once taken: whether all of them stayed there
    found: np.ndarray | None = None  # int64 [U], where each was when it was staged, as CacheStats.count_keys has it

    @property
    def ids(self) -> np.ndarray:
        """int64 [U]"""
        return self.keys.ids

    @property
    def tables(self) -> np.ndarray:
        """int32 [U]"""
        return self.keys.tables

    def release(self, device: DeviceTier) -> None:
        """Its rows may leave again, if it holds some."""
        if self.holds and self.rows is not None:
            here = self.rows[self.rows >= 0]
            self.holds = count_down(device.index.at["held"], here) is not None

    def count_brought(self, stats: CacheStats) -> None:
        """Count rows that were staged for it where they were before, though an earlier lookup found them on the device.

        Such a lookup is an admission hook's, before the call.
        """
        if self.rows is None or self.found is None:
            return
        brought = (self.rows >= 0) & (self.found != ON_DEVICE)
        counts, found = self.keys.counts[brought], self.found[brought]
        stats.count_keys(counts, np.full(len(counts), ON_DEVICE), times=-1)
        stats.count_keys(counts, found)


class PlannedCalls:
    """Of one table, under its lock. consumed, last: numbers of the last call that came, and of the last one planned."""

    def __init__(self) -> None:
        self.calls: deque[PlannedCall] = deque()
        self.consumed = self.last = 0
        self._uses = NextUses()

    def plan(self, device: DeviceTier, digest: bytes, keys: Unique) -> PlannedCall:
        """Plan a call after all others; for a policy that looks ahead, note when its rows are used."""
        self.last += 1
        planned = PlannedCall(self.last, digest, keys)
        self.calls.append(planned)
        if isinstance(device.policy, Lookahead):
            planned.noted, first = self._uses.note(keys.ids, keys.tables, planned.number)
            rows = device.find(keys.ids[first], keys.tables[first])  # no planned call uses these sooner
            fill(device.index.at["next_use"], rows[rows >= 0], planned.number)
        return planned

    def take(self, device: DeviceTier, call: LookupCall) -> PlannedCall | None:
        """The plan of this call, if there is one, without its holds, and with the next call of each of its keys."""
        digest = digest_of(call)
        planned = next((each for each in self.calls if each.digest == digest), None)
        if planned is None:
            return None
        if planned.noted is not None:
            planned.following = self._uses.noted(planned.noted, len(planned.ids))
        planned.ready = planned.holds and planned.rows is not None and bool((planned.rows >= 0).all())
        self.leave(device, planned.number)
        return planned

    def leave(self, device: DeviceTier, number: int) -> None:
        """Forget calls up to this one, which came or never will; their holds end first."""
        while self.calls and self.calls[0].number <= number:
            planned = self.calls[0]
            planned.release(device)
            if planned.noted is not None:
                self._uses.forget(planned.noted + len(planned.ids))
            self.consumed = max(self.consumed, planned.number)
            self.calls.popleft()

    def unstage(self, device: DeviceTier) -> None:
        """End all holds, before rows get other numbers or go; planned calls find their rows when they come."""
        for planned in self.calls:
            planned.release(device)
            planned.rows = planned.early = None  # rows read early may soon be of another format

    def forget(self, device: DeviceTier) -> None:
        """No planned call will come."""
        self.leave(device, self.last)


def unique_keys(call: LookupCall) -> Unique:
    """Of a call, in host memory."""
    ids = call.ids.detach().cpu().contiguous().numpy()
    return partition.unique_keys(ids, np.array(call.lengths, np.int64), np.array(call.ordinals, np.int32))


def digest_of(call: LookupCall) -> bytes:
    """Of a call's ids and their tables."""
    hashed = xxhash.xxh3_128(call.ids.detach().cpu().contiguous().numpy())
    hashed.update(np.array([call.lengths, call.ordinals], np.int64))
    return hashed.digest()
