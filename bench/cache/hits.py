"""Hit rates of the policies: a table's own tiers, led through a trace.

A hit is an occurrence for which no row had to be brought: in each call all but the first of a key that was not on the
device. `on_arrival` counts only occurrences whose row was there before the call. Every row is changed by its call, as
training does; rows that a call brought may leave in the next one.

Sizes: U unique keys of a call, K rows on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recis_core.backends import Clock, LookupCall, LookupMode, TableSpec, get
from recis_core.bench.cache import belady
from recis_core.options.cache_config import CacheConfig
from recis_core.options.cache_policy import Policy, Ttl, policy_of
from recis_core.table.tiers.planned_calls import digest_of, unique_keys
from recis_core.table.tiers.tiered_call import TieredCall
from recis_core.table.tiers.tiered_state import TieredState

TRAIN = LookupMode(insert=True)
POLICIES = ("lru", "lfu", "lookahead 4", "lookahead 16", "ttl")
CALLS = 1e9  # a lifetime in calls that no row reaches: what is left of ttl is who came first leaves first


class Replay:
    """A trace's calls, and the keys of each, found once."""

    def __init__(self, calls: list[LookupCall]) -> None:
        self.calls = calls
        self.uids = tuple(range(1, 2 + max(calls[0].ordinals)))
        self.keys = [unique_keys(call) for call in calls]
        self.digests = [digest_of(call) for call in calls]
        self.occurrences = sum(len(call.ids) for call in calls)
        self.largest = max(len(keys.ids) for keys in self.keys)
        numbers, at = np.unique(self._pairs(), return_inverse=True)
        self.distinct = len(numbers)
        self.numbered = np.split(at, np.cumsum([len(keys.ids) for keys in self.keys])[:-1])

    def _pairs(self) -> np.ndarray:
        pairs = np.empty(sum(len(keys.ids) for keys in self.keys), [("table", np.int32), ("id", np.int64)])
        pairs["id"] = np.concatenate([keys.ids for keys in self.keys])
        pairs["table"] = np.concatenate([keys.tables for keys in self.keys])
        return pairs

    def _state(self, policy: str | Policy, rows: int) -> TieredState:
        return TieredState(get("numba"), TableSpec(1, self.uids), CacheConfig(device_rows=rows, policy=policy))

    def optimum(self, rows: int, *, between: bool = False) -> float:
        """Belady's hit rate."""
        return 1 - belady.misses(self.numbered, self.distinct, rows, between=between) / self.occurrences

    def run(self, policy: str, rows: int, *, between: bool = False) -> Hits:
        """policy: one of POLICIES. between: rows bounds what stays between calls; what a call brings comes on top."""
        kind, _, window = policy.partition(" ")
        clock = _Calls()
        room = rows + self.largest if between else rows
        state = self._state(clock.ttl() if kind == "ttl" else policy_of(kind), room)
        run = _Run(self, state, int(window or 0), rows)
        for number in range(len(self.calls)):
            clock.now = float(number)
            run.step(number)
        return run.hits()


@dataclass(frozen=True)
class Hits:
    """Shares of all occurrences."""

    hit_rate: float
    on_arrival: float


class _Calls:
    """A clock that counts calls."""

    now = 0.0

    def ttl(self) -> Ttl:
        read: Callable[[], float] = lambda: self.now  # noqa: E731
        return Ttl(CALLS, read)


class _Run:
    """window: calls after this one that are known. rows: K, that stay between calls."""

    def __init__(self, replay: Replay, state: TieredState, window: int, rows: int) -> None:
        self.replay, self.state, self.window, self.rows = replay, state, window, rows
        self.planned = self.missed = 0

    def step(self, number: int) -> None:
        while self.window and self.planned < min(number + self.window + 1, len(self.replay.calls)):
            self.state.planned_calls.plan(
                self.state.device, self.replay.digests[self.planned], self.replay.keys[self.planned]
            )
            self.planned += 1
        before = self.state.stats.counts["hits_device"]
        with self.state.lock:
            self.state.starts(Clock(number, number))
            keys = self.replay.keys[number]
            planned = self.state.planned_calls.take(self.state.device, self.replay.calls[number])
            call = TieredCall(self.state, keys.ids, keys.tables, keys.counts, TRAIN, planned)
            call.place()
            call.count()
            self.state.device.changed(self.state.device.find(keys.ids, keys.tables))
            self._trim(number)
        self.missed += len(keys.ids) - (self.state.stats.counts["hits_device"] - before)

    def _trim(self, number: int) -> None:
        device, over = self.state.device, len(self.state.device) - self.rows
        if over > 0:
            self.state.depart(
                device.victims(over, number + 1, self.state.planned_calls.consumed, np.zeros(0, np.int64))
            )

    def hits(self) -> Hits:
        return Hits(1 - self.missed / self.replay.occurrences, self.state.stats.hit_rate)
