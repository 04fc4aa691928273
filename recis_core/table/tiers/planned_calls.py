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

from recis_core.backends import LookupCall
from recis_core.backends.numba_backend.partition import Unique
from recis_core.backends.tier_loops.next_uses import NextUses


@dataclass
class Early:
    """Rows read from disk before they are needed: each key's place there when it was read, -1 for none, and its bytes."""

    places: np.ndarray  # int64 [U]
    at: np.ndarray  # int64 [U], into packed
    packed: np.ndarray  # uint8 [·, row_bytes]

    def pick(self, which: np.ndarray) -> Early:
        return Early(self.places[which], self.at[which], self.packed)


@dataclass(eq=False)
class PlannedCall:
    """One call's unique keys."""

    number: int
    digest: bytes
    keys: Unique
    noted: int | None = None  # where its notes begin, if its uses were noted
    following: np.ndarray | None = None  # int64 [U], of a noted call once taken: who asks next, or NEVER
    early: Early | None = None
    rows: np.ndarray | None = None  # int32 [U], on the device; -1 for those that found no room
    holds: bool = False  # whether these rows stay there for it
    found: np.ndarray | None = None  # int64 [U], where each was when it was staged, as CacheStats.asked has it

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


@dataclass
class PlannedCalls:
    """Of one table, under its lock."""

    calls: deque[PlannedCall] = field(default_factory=deque)
    consumed: int = 0
    last: int = 0

    def __post_init__(self) -> None:
        self._uses = NextUses()

    def plan(self, digest: bytes, keys: Unique) -> PlannedCall:
        """A call that comes after all that were planned before."""
        self.last += 1
        self.calls.append(PlannedCall(self.last, digest, keys))
        return self.calls[-1]

    def note_uses(self, planned: PlannedCall) -> np.ndarray:
        """Tell earlier calls which of their keys the one planned last asks for next. The positions, in it, of its other keys,
        which no call to come asks for sooner.
        """
        planned.noted, first = self._uses.note(planned.ids, planned.tables, planned.number)
        return first

    def planned_as(self, digest: bytes) -> PlannedCall | None:
        """The first planned call that is this one, if there is one; it knows then who asks next for its keys."""
        for planned in self.calls:
            if planned.digest == digest:
                if planned.noted is not None:
                    planned.following = self._uses.noted(planned.noted, len(planned.ids))
                return planned
        return None

    def pop(self) -> None:
        """Forget the call that was to come next."""
        planned = self.calls[0]
        if planned.noted is not None:
            self._uses.forget(planned.noted + len(planned.ids))
        self.consumed = max(self.consumed, planned.number)
        self.calls.popleft()


def digest_of(call: LookupCall) -> bytes:
    """Of a call's ids and their tables."""
    hashed = xxhash.xxh3_128(call.ids.detach().cpu().contiguous().numpy())
    hashed.update(np.array([call.lengths, call.ordinals], np.int64))
    return hashed.digest()
