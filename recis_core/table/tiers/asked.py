"""A call's keys, and that they were used: counted once all else of the call has gone well, and then whole.

Sizes: U unique keys, n those that are not on the device.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from recis_core.backends import LookupMode
from recis_core.backends.tier_loops.columns import put
from recis_core.table.tiers import overflow_table, staging
from recis_core.table.tiers.planned_calls import PlannedCall

if TYPE_CHECKING:
    from recis_core.table.tiers.lower_tiers import Fetched
    from recis_core.table.tiers.tiered_state import TieredState

AWAY, UNKNOWN, EARLY = -1, -2, -3  # instead of a row number on the device; EARLY has one there, made ahead of its call
NO_ROWS = np.zeros(0, np.int64)


@dataclass(eq=False)
class Asked:
    """What a call asks for, under the table's lock until it was counted or taken back."""

    ids: np.ndarray  # int64 [U]
    tables: np.ndarray  # int32 [U]
    counts: np.ndarray  # int32 [U]
    mode: LookupMode
    tick: int
    """Of the table, this call counted."""
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))  # int32 [U], as of find_all or bring
    found: np.ndarray | None = (
        None  # int64 [U], where each was, as CacheStats.asked has it; None where that is not counted
    )
    planned: PlannedCall | None = None
    away: np.ndarray | None = None  # int64 [n], positions; of a call that is made on a table aside
    begun: np.ndarray = field(
        default_factory=lambda: NO_ROWS
    )  # int64, positions of new keys that are written below for it
    missing: np.ndarray = field(default_factory=lambda: NO_ROWS)  # int64, positions of keys that were not on the device
    made: np.ndarray = field(default_factory=lambda: NO_ROWS)  # of the table, before
    stats: Counter[str] | None = None
    """Of the table, before it was counted in them."""
    counted: bool = False

    @property
    def uses(self) -> bool:
        """Whether it is a use, to policies too."""
        return self.mode.insert and self.mode.touch

    @property
    def fits(self) -> bool:
        """All that it needs is on the device."""
        return bool(((self.rows >= 0) | (self.rows == UNKNOWN)).all())

    def keys(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.ids[which], self.tables[which]


def begin_away(state: TieredState, asked: Asked) -> None:
    """The call is made on a table aside. New keys that found no place on the device are written below it, if it is a use."""
    asked.away = np.flatnonzero(state.device.find_known(asked.ids, asked.tables) < 0)
    if asked.uses:
        away = np.flatnonzero(asked.rows == AWAY)
        asked.begun = away[~state.lower.contains(*asked.keys(away))]
        overflow_table.begin_below(state, *asked.keys(asked.begun), asked.tick)


def take_back(state: TieredState, asked: Asked) -> None:
    """The call broke off, and if it was not counted, it never came: its new keys are unknown again."""
    state.lock.whole(partial(_take_back, state, asked))


def _take_back(state: TieredState, asked: Asked) -> None:
    """Whether it was counted is known in here alone: a count that broke off, too, is finished before."""
    if asked.counted:
        return
    state.device.settle()
    rows = state.device.find(*asked.keys(asked.missing))
    rows = rows[rows >= 0]
    state.device.drop(rows[~state.device.is_known(rows)])
    if len(asked.begun):
        state.lower.erase(*asked.keys(asked.begun))
    state.made = asked.made
    if asked.stats is not None:
        state.stats.counts = asked.stats.copy()


def count(state: TieredState, asked: Asked, fetched: Fetched | None = None) -> None:
    """The call came: what it asked for is known, and used. fetched: of those that are used where they lie, `asked.away`."""
    asked.stats = state.stats.counts.copy()
    _count_in_stats(state, asked)
    here = np.flatnonzero(asked.rows >= 0)
    rows = asked.rows if len(here) == len(asked.rows) else asked.rows[here]
    late = _used_below(state, asked, fetched)
    if asked.uses:
        state.device.score(rows, asked.counts[here], asked.tick)
    if asked.planned is not None and asked.planned.following is not None:
        put(state.device.index.at["next_use"], rows, asked.planned.following[here])
    state.lock.whole(partial(_commit, state, asked, rows, late, state.lower.uses_added))
    state.lower.write_deferred_if_many()


def _count_in_stats(state: TieredState, asked: Asked) -> None:
    if asked.uses and asked.found is not None:
        state.stats.asked(asked.counts, asked.found)
    if not asked.mode.insert and asked.planned is not None:
        staging.count_brought(state, asked.planned)
    if asked.mode.insert and asked.away is not None:
        state.stats.count("overflowed", int((asked.rows == AWAY).sum()))


Late = tuple[np.ndarray, np.ndarray, np.ndarray | None]  # ids, tables, scores


def _used_below(state: TieredState, asked: Asked, fetched: Fetched | None) -> Late | None:
    if not asked.mode.touch:
        return None
    if not asked.mode.insert:
        below = np.flatnonzero(asked.rows == AWAY)
        return (*asked.keys(below), None) if len(below) else None
    if fetched is None or asked.away is None:
        return None
    away = asked.away[fetched.found]
    scores = fetched.rows.marks["score"].copy()
    state.policy.touch(scores, np.arange(len(away)), asked.counts[away], asked.tick)
    return *asked.keys(away), scores


def _commit(state: TieredState, asked: Asked, rows: np.ndarray, late: Late | None, added: int) -> None:
    """May be called again wherever it was broken off: what it has done already is told by counts."""
    if late is not None and state.lower.uses_added == added:
        state.lower.used(late[0], late[1], state.step, scores=late[2])
    if asked.counted:
        return
    here, below = state.device, int((asked.rows == AWAY).sum())
    found, uses, tick = state.found, asked.uses, asked.tick
    if asked.mode.insert:
        found += below - len(asked.begun) if uses and asked.away is not None else 0
        # In one line: what it changes in rows, and that it did.
        state.found, state.tick, asked.counted = found + uses * here.use(rows, state.step, touch=uses), tick, True
    elif asked.mode.touch:
        unknown = state.unknown + len(asked.rows) - below - len(rows)
        state.found, state.unknown, asked.counted = found + below + here.touch(rows, state.step), unknown, True
