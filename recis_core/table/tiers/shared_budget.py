"""Bytes that all tables of a model share, divided by the bytes of rows that each uses.

Sizes: T tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from recis_core.table.tiers.tier_sizes import least_portion

if TYPE_CHECKING:
    from recis_core.table.tiers.tiered_state import TieredState

FIRST, PERIOD = 16, 1024  # updates of a table after which shares are measured anew: 16, 32, 64, … and then every 1024
LEAST = 1 / 16  # of an equal share, that a table keeps without any use
NOTICED = 0.2  # change of a share below which a table is left as it is
KEYS = ("hits_device", "hits_host", "hits_disk", "new")  # of training calls


class SharedBudget:
    """Of one engine. Bounds in rows are each table's; bounds in bytes are divided, those of disks' indices equally."""

    def __init__(self, states: Sequence[TieredState]) -> None:
        self.states = list(states)
        self._steps, self._next = 0, FIRST
        self._keys = dict.fromkeys(self.states, 0)
        for state in self.states:
            state.budget = self
            state.take_portion(1 / len(self.states))

    def stepped(self, state: TieredState) -> None:
        """A table was updated; the first one's updates count."""
        if state is not self.states[0]:
            return
        self._steps += 1
        if self._steps == self._next:
            self._next += min(self._next, PERIOD)
            self._divide()

    def _divide(self) -> None:
        """By bytes of rows used since the last time."""
        keys = {state: sum(state.stats.counts[name] for name in KEYS) for state in self.states}
        used = {state: (keys[state] - self._keys[state]) * state.row_bytes for state in self.states}
        self._keys, total = keys, sum(used.values())
        if not total:
            return
        least = LEAST / len(self.states)
        for state in self.states:
            portion = max(least + (1 - LEAST) * used[state] / total, least_portion(state.config, state.row_bytes))
            if abs(portion - state.portion) > NOTICED * state.portion:
                with state.lock:
                    state.take_portion(portion)


def share_budget(tiers: Iterable[TieredState | None]) -> None:
    """Divide their config's bytes among these tables' tiers."""
    each = [state for state in dict.fromkeys(tiers) if state is not None]
    if len(each) > 1:
        SharedBudget(each)
