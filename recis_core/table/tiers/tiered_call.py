"""One call on a table in tiers: its keys are brought to the device, it is embedded, and then counted or taken back.

Sizes: U unique keys, n those whose rows are below the device and stay there, D dim.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from recis_core.backends import Clock, LookupCall, LookupMode
from recis_core.backends.tier_loops.columns import put
from recis_core.table.tiers.cache_stats import ON_DEVICE
from recis_core.table.tiers.lower_tiers import NOWHERE_BELOW, Fetched
from recis_core.table.tiers.overflow_table import new_rows
from recis_core.table.tiers.planned_calls import PlannedCall, unique_keys

if TYPE_CHECKING:
    from recis_core.table.tiers.tiered_state import TieredState

AWAY, UNKNOWN, EARLY = -1, -2, -3  # in place of a row number; EARLY is on the device, prefetched for an unknown id
ELSEWHERE = 1 << 30  # from here on row numbers are positions among the last lookup's keys that were not on the device
NO_ROWS = np.zeros(0, np.int64)
Uses = tuple[np.ndarray, np.ndarray, np.ndarray | None]  # ids, tables, scores; None keeps those


def looked_up(
    tiers: TieredState, ids: np.ndarray, tables: np.ndarray, counts: np.ndarray, mode: LookupMode
) -> np.ndarray:
    """Row numbers int32 [U] of unique keys, ELSEWHERE and up of those below the device, -1 for unknown; the call is counted."""
    call = TieredCall(tiers, ids, tables, counts, mode)
    try:
        call.place()
        away = np.flatnonzero(call.rows == AWAY)
        if mode.insert and len(away):
            call.read_away()
        rows, elsewhere = np.maximum(call.rows, -1), call.keys(away)
        rows[away] = ELSEWHERE + np.arange(len(away))
        call.count()
    except BaseException:
        call.take_back()
        raise
    tiers.elsewhere = elsewhere
    return rows


def embedded(
    tiers: TieredState, call: LookupCall, *, mode: LookupMode, clock: Clock, weights_need_grad: tuple[bool, ...]
) -> tuple[list[Tensor], Any, int | None]:
    """A call's outputs, what the backend keeps for its backward, and the device's numbering; None if rows are elsewhere."""
    how: Any = {"mode": mode, "clock": clock, "weights_need_grad": weights_need_grad}
    planned = tiers.planned_calls.take(tiers.device, call) if mode.learns and tiers.planned_calls.calls else None
    keys = unique_keys(call) if planned is None else planned.keys
    mine = TieredCall(tiers, keys.ids, keys.tables, keys.counts, mode, planned)
    try:
        mine.place()
        known = mine.rows >= 0
        fits = bool((known | (mine.rows == UNKNOWN)).all())
        if fits:
            outputs, kept = tiers.device.embed(call, keys, np.maximum(mine.rows, -1), **how)
        else:
            outputs, kept = tiers.device.embed_values(call, keys, mine.values(known), known, **how)
        result = outputs, kept, tiers.renumbered if fits else None
        mine.count()
    except BaseException:
        mine.take_back()
        raise
    return result


class TieredCall:
    """Under the table's lock, until it is counted or taken back.

    Attributes:
      ids, tables, counts: int64, int32 and int32 [U]; how often the call has each key.
      tick: the table's, once this call is counted.
      rows: int32 [U], numbers on the device, or AWAY, UNKNOWN, EARLY.
      found: int64 [U], where each was when the call came, as CacheStats.count_keys has it; None where that is not counted.
      places: of the keys that are AWAY, below the device.
      away: int64 [n], positions of the keys that were read below the device; None if none were.
      below, scores: bool and float64 [n], which of them have a row below, and its score.
      begun: int64, positions of new keys that were written below for the call.
      missing: int64, positions of keys that were not on the device.
      planned: the call as a Prefetcher planned it.
      made, stats: of the table, before the call; stats None until it is counted in them.
    """

    def __init__(
        self,
        tiers: TieredState,
        ids: np.ndarray,
        tables: np.ndarray,
        counts: np.ndarray,
        mode: LookupMode,
        planned: PlannedCall | None = None,
    ) -> None:
        self.tiers, self.ids, self.tables, self.counts, self.mode = tiers, ids, tables, counts, mode
        self.uses = mode.insert and mode.touch  # whether the call is a use, also to policies
        self.tick, self.made, self.planned = tiers.tick + self.uses, tiers.counts.made, planned
        self.rows = np.zeros(0, np.int32)
        self.found: np.ndarray | None = None
        self.places = NOWHERE_BELOW
        self.away: np.ndarray | None = None
        self.below, self.scores = np.zeros(0, bool), np.zeros(0)
        self.begun = self.missing = NO_ROWS
        self.stats: Counter[str] | None = None
        self._counted = False

    def keys(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.ids[which], self.tables[which]

    def place(self) -> None:
        """Find the keys' rows; in a call that inserts, bring them to the device as far as there is room."""
        planned = self.planned
        if not self.mode.insert:
            self._find()
        elif planned is not None and planned.ready and planned.rows is not None:
            self.rows, self.found = planned.rows, planned.found
        else:
            self._bring()

    def _find(self) -> None:
        device, rows = self.tiers.device, self.tiers.device.find(self.ids, self.tables)
        missing = np.flatnonzero(rows < 0)
        places = self.tiers.lower.find(*self.keys(missing))
        known = places.known
        rows[missing], self.places = np.where(known, AWAY, UNKNOWN), places.pick(known)
        rows[(rows >= 0) & ~device.is_known(rows)] = EARLY
        self.rows = rows

    def _bring(self) -> None:
        rows = self.tiers.device.find(self.ids, self.tables)
        found, missing = np.full(len(rows), ON_DEVICE), np.flatnonzero(rows < 0)
        if len(missing):
            self.missing = missing
            rows[missing], found[missing], self.places = self.tiers.bring(
                *self.keys(missing), kept=rows[rows >= 0], tick=self.tick
            )
        staged = None if self.planned is None else self.planned.found
        self.rows, self.found = rows, found if staged is None else staged  # before staging, if they were staged

    def values(self, known: np.ndarray) -> Tensor:
        """float32 [U, D], wherever rows are. known: bool [U], keys with a row on the device; other keys with a row are added."""
        unknown = "initial" if self.mode.insert else self.mode.unknown
        values = self.tiers.device.values(np.maximum(self.rows, -1), self.ids, self.tables, unknown)
        fetched = self.read_away(values)
        below = np.flatnonzero(self.rows == AWAY)[fetched.found]
        values[torch.from_numpy(below).to(values.device)] = fetched.rows.weights.to(values.device).float()
        known[below] = True
        if self.mode.insert:
            known[:] = True
        return values

    def read_away(self, values: Tensor | None = None) -> Fetched:
        """Read the rows of keys that are AWAY; if the call is a use, new keys among them are written below the device.

        values: float32 [U, D], with new keys' initial values; None to make these.
        """
        fetched = self.tiers.lower.read_at(self.places)
        self.away, self.below = np.flatnonzero(self.rows == AWAY), fetched.found.copy()
        self.scores = np.full(len(self.below), -np.inf)
        self.scores[self.below] = fetched.rows.marks["score"]
        if self.uses and not (known := self.places.known).all():
            self._begin_below(np.flatnonzero(~known), self.away[~known], values)
        return fetched

    def _begin_below(self, which: np.ndarray, begun: np.ndarray, values: Tensor | None) -> None:
        """New keys without room on the device become rows below it, without uses yet."""
        tiers, keys = self.tiers, self.keys(begun)
        at = None if values is None else torch.from_numpy(begun).to(values.device)
        weights = tiers.device.initial(*keys) if values is None else values[at]
        rows = new_rows(tiers.device, tiers.lower, weights, step=tiers.step, tick=self.tick)
        self.begun, self.below[which], self.scores[which] = begun, True, rows.marks["score"]
        tiers.lower.write(*keys, rows)
        tiers.counts.came(keys[1])

    def count(self) -> None:
        """The call came: its keys are known, and used."""
        tiers, at = self.tiers, self.tiers.device.index.at
        self.stats = tiers.stats.counts.copy()
        self._count_in_stats()
        here = np.flatnonzero(self.rows >= 0)
        rows = self.rows if len(here) == len(self.rows) else self.rows[here]
        used = self._used_below()
        if self.uses:
            tiers.policy.touch(at["score"], rows, self.counts[here], self.tick)
        if self.planned is not None and self.planned.following is not None:
            put(at["next_use"], rows, self.planned.following[here])
        tiers.lock.whole(partial(self._commit, rows, used, tiers.lower.uses_added))
        tiers.lower.write_deferred_if_many()

    def _count_in_stats(self) -> None:
        if self.uses and self.found is not None:
            self.tiers.stats.count_keys(self.counts, self.found)
        if not self.mode.insert and self.planned is not None:
            self.planned.count_brought(self.tiers.stats)
        if self.mode.insert and self.away is not None:
            self.tiers.stats.count("overflowed", len(self.away))

    def _used_below(self) -> Uses | None:
        """Keys of rows below the device that the call uses where they lie."""
        if not self.mode.touch:
            return None
        if not self.mode.insert:
            below = np.flatnonzero(self.rows == AWAY)
            return (*self.keys(below), None) if len(below) else None
        if self.away is None:
            return None
        away, scores = self.away[self.below], self.scores[self.below]
        self.tiers.policy.touch(scores, np.arange(len(away)), self.counts[away], self.tick)
        return *self.keys(away), scores

    def _commit(self, rows: np.ndarray, used: Uses | None, added: int) -> None:
        """May be called again wherever it was broken off: counts show what is done already."""
        tiers, device = self.tiers, self.tiers.device
        if used is not None and tiers.lower.uses_added == added:
            tiers.lower.used(used[0], used[1], tiers.step, scores=used[2])
        if self._counted:
            return
        below, found, uses, tick = int((self.rows == AWAY).sum()), tiers.found, self.uses, self.tick
        if self.mode.insert:
            found += below - len(self.begun) if uses and self.away is not None else 0
            # In one line: what it changes in rows, and that it did.
            tiers.found, tiers.tick, self._counted = found + uses * device.use(rows, tiers.step, touch=uses), tick, True
        elif self.mode.touch:
            unknown = tiers.unknown + len(self.rows) - below - len(rows)
            tiers.found, tiers.unknown, self._counted = found + below + device.touch(rows, tiers.step), unknown, True

    def take_back(self) -> None:
        """The call broke off. Unless it was counted, it never came: its new keys are unknown again."""
        self.tiers.lock.whole(self._take_back)

    def _take_back(self) -> None:
        """Whether the call was counted is known only here, for `whole` first finishes a count that broke off."""
        if self._counted:
            return
        tiers, device = self.tiers, self.tiers.device
        device.settle()
        rows = device.find(*self.keys(self.missing))
        rows = rows[rows >= 0]
        device.drop(rows[~device.is_known(rows)])
        if len(self.begun):
            tiers.lower.erase(*self.keys(self.begun))
        tiers.counts.made = self.made
        if self.stats is not None:
            tiers.stats.counts = self.stats.copy()
