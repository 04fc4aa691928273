"""The calls that a Prefetcher knows to come, in order, and for each of their keys which of them asks for it next.

    planned ── keys known ── read from disk ── staged: on the device, held ── taken by its forward
    number:  consumed + 3 …                    consumed + 1                   consumed

Sizes: U unique keys of a call.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import xxhash

from backends import LookupCall
from backends.numba_backend.key_map import KeyMap
from backends.numba_backend.partition import Unique

NEVER = np.int64(-1)
POSITION_BITS = 32
LAST_POSITION = (1 << POSITION_BITS) - 1


@dataclass
class Early:
    """Rows read from disk before they are needed: each key's place there when it was read, -1 for none, and its bytes."""

    places: np.ndarray  # int64 [U]
    at: np.ndarray  # int64 [U], into packed
    packed: np.ndarray  # uint8 [·, row_bytes]

    def pick(self, which: np.ndarray) -> Early:
        return Early(self.places[which], self.at[which], self.packed)


@dataclass(eq=False)
class Batch:
    """One call's unique keys."""

    number: int
    digest: bytes
    keys: Unique
    following: np.ndarray  # int64 [U], number of the next call that asks for the key
    early: Early | None = None
    rows: np.ndarray | None = None  # int32 [U], on the device and held; -1 for those that found no room

    @property
    def ids(self) -> np.ndarray:
        """int64 [U]"""
        return self.keys.ids

    @property
    def tables(self) -> np.ndarray:
        """int32 [U]"""
        return self.keys.tables

    @property
    def counts(self) -> np.ndarray:
        """int32 [U]"""
        return self.keys.counts

    @property
    def uses(self) -> np.ndarray:
        """int64 [U], this call's number and each key's position in it."""
        return (np.int64(self.number) << POSITION_BITS) + np.arange(len(self.ids))


@dataclass
class Upcoming:
    """Of one table, under its lock."""

    batches: deque[Batch] = field(default_factory=deque)
    consumed: int = 0
    planned: int = 0

    def __post_init__(self) -> None:
        self._last = KeyMap()  # of each key the last call that asks for it, and where in it: Batch.uses
        self._gone: list[Batch] = []  # calls whose keys may still be there; whoever notes more forgets them

    def plan(self, digest: bytes, keys: Unique) -> Batch:
        """A call that comes after all that were planned before."""
        self.planned += 1
        batch = Batch(self.planned, digest, keys, np.full(len(keys.ids), NEVER))
        self.batches.append(batch)
        return batch

    def note_uses(self, batch: Batch) -> np.ndarray:
        """Tell earlier calls which of their keys the one planned last asks for next. The positions, in it, of its other keys,
        which no call to come asks for sooner.
        """
        self._forget()
        before = self._last.swap(batch.ids, batch.tables, batch.uses)
        asked = before >= 0
        calls, positions = before[asked] >> POSITION_BITS, before[asked] & LAST_POSITION
        for earlier in self.batches:
            earlier.following[positions[calls == earlier.number]] = batch.number
        return np.flatnonzero(~asked)

    def take(self, digest: bytes) -> tuple[Batch | None, list[Batch]]:
        """The first planned call that is this one, or None; and those that were planned before it and never came."""
        for position, batch in enumerate(self.batches):
            if batch.digest == digest:
                skipped = [self._pop() for _ in range(position)]
                return self._pop(), skipped
        return None, []

    def until(self, number: int) -> list[Batch]:
        """Forget what was planned up to this call and never came."""
        missed = []
        while self.batches and self.batches[0].number <= number:
            missed.append(self._pop())
        return missed

    def clear(self) -> list[Batch]:
        """Forget all that is planned."""
        found = [self._pop() for _ in range(len(self.batches))]
        self._forget()
        return found

    def _pop(self) -> Batch:
        batch = self.batches.popleft()
        self.consumed = batch.number
        if len(self._last):
            self._gone.append(batch)
        return batch

    def _forget(self) -> None:
        """Keys that a call to come asks for are there for that."""
        for batch in self._gone:
            last = np.flatnonzero(batch.following == NEVER)
            self._last.drop(batch.ids[last], batch.tables[last], batch.uses[last])
        self._gone.clear()


def digest_of(call: LookupCall) -> bytes:
    """Of a call's ids and their tables."""
    hashed = xxhash.xxh3_128(call.ids.detach().cpu().contiguous().numpy())
    hashed.update(np.array([call.lengths, call.ordinals], np.int64))
    return hashed.digest()
