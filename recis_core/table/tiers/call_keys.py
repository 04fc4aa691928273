"""A call's unique keys: where each row lies, and what is needed to count the call or to take it back.

Sizes: U unique keys, n those whose rows are below the device and stay there.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from recis_core.backends import LookupMode
from recis_core.options.cache_policy import Policy
from recis_core.table.tiers.lower_tiers import NOWHERE_BELOW, Fetched
from recis_core.table.tiers.planned_calls import PlannedCall

AWAY, UNKNOWN, EARLY = -1, -2, -3  # instead of a row number on the device; EARLY has one there, made ahead of its call
ELSEWHERE = 1 << 30  # row numbers from here on: positions among the last lookup's keys that are not on the device
NO_ROWS = np.zeros(0, np.int64)
Uses = tuple[np.ndarray, np.ndarray, np.ndarray | None]  # ids, tables, scores or None for what they were


class CallKeys:
    """Of one call, under the table's lock until it is counted or taken back.

    Attributes:
      ids, tables, counts: int64, int32 and int32 [U]; how often the call has each key.
      mode: the call's. tick: the table's, once this call is counted.
      rows: int32 [U], numbers on the device, or AWAY, UNKNOWN, EARLY.
      found: int64 [U], where each was when the call came, as CacheStats.asked has it; None where that is not counted.
      places: of the keys that are AWAY, below the device.
      away: int64 [n], positions of keys that were read where they lie; None of a call that needs none of them.
      below, scores: bool and float64 [n], which of them have a row below, and its score.
      begun: int64, positions of new keys that were written below for the call.
      missing: int64, positions of keys that were not on the device.
      planned: the call as a Prefetcher planned it.
      made, stats: of the table, before the call; stats None until it is counted in them.
    """

    def __init__(
        self,
        ids: np.ndarray,
        tables: np.ndarray,
        counts: np.ndarray,
        mode: LookupMode,
        tick: int,
        planned: PlannedCall | None,
        made: np.ndarray,
    ) -> None:
        self.ids, self.tables, self.counts, self.mode, self.tick = ids, tables, counts, mode, tick
        self.planned, self.made = planned, made
        self.uses = mode.insert and mode.touch  # whether it is a use, to policies too
        self.rows = np.zeros(0, np.int32)
        self.found: np.ndarray | None = None
        self.places = NOWHERE_BELOW
        self.away: np.ndarray | None = None
        self.below, self.scores = np.zeros(0, bool), np.zeros(0)
        self.begun = self.missing = NO_ROWS
        self.stats: Counter[str] | None = None
        self.counted = False

    def keys(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.ids[which], self.tables[which]

    def read_away(self, fetched: Fetched) -> None:
        """Keys that are AWAY were read where they lie."""
        self.away, self.below = np.flatnonzero(self.rows == AWAY), fetched.found.copy()
        self.scores = np.full(len(self.below), -np.inf)
        self.scores[self.below] = fetched.rows.marks["score"]

    def used_below(self, policy: Policy) -> Uses | None:
        """Keys of rows below the device that the call uses where they lie."""
        if not self.mode.touch:
            return None
        if not self.mode.insert:
            below = np.flatnonzero(self.rows == AWAY)
            return (*self.keys(below), None) if len(below) else None
        if self.away is None:
            return None
        away, scores = self.away[self.below], self.scores[self.below]
        policy.touch(scores, np.arange(len(away)), self.counts[away], self.tick)
        return *self.keys(away), scores
