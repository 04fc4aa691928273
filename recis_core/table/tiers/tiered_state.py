"""One table's tiers, and how its rows move between them. Every move is made under `lock`.

Sizes: N ids of a call, U unique keys, n keys, K rows on the device at most.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from recis_core.backends import Backend, Clock, Counters, LookupCall, LookupMode, SlotSpec, TableSpec
from recis_core.backends.errors import RecisError, StorageFull, TableFull
from recis_core.backends.tier_loops.columns import fill, put
from recis_core.options.cache_config import CacheConfig
from recis_core.options.cache_policy import Ttl, policy_of
from recis_core.table.tiers import staging, tier_sizes
from recis_core.table.tiers.cache_stats import IN_HOST, NOWHERE, ON_DEVICE, ON_DISK, CacheStats, summary
from recis_core.table.tiers.call_keys import AWAY, EARLY, ELSEWHERE, UNKNOWN, CallKeys, Uses
from recis_core.table.tiers.device_tier import DeviceTier
from recis_core.table.tiers.disk_place import check_place, open_disk
from recis_core.table.tiers.key_counts import counted, no_keys, rows_on
from recis_core.table.tiers.lower_tiers import Fetched, LowerTiers, Places
from recis_core.table.tiers.overflow_table import Change, Changed, changed_rows, new_rows, slot_of
from recis_core.table.tiers.planned_calls import Early, PlannedCall, PlannedCalls
from recis_core.table.tiers.row_format import RowFormat, Rows
from recis_core.table.tiers.turn import Turn
from recis_core.uninterrupted import as_one, uninterrupted

if TYPE_CHECKING:
    from recis_core.backends.numba_backend.partition import Unique
    from recis_core.table.disk import DiskStore
    from recis_core.table.tiers.shared_budget import SharedBudget

LOG = logging.getLogger(__name__)
Keys = tuple[np.ndarray, np.ndarray]  # ids int64 [n], tables int32 [n]


class TieredState:
    """Of one physical table: its rows on the device and below, who leaves for whom, and what is known to come.

        device ── depart ──> lower.host ──> lower.disk        bring, put_in: the other way
        ^ held for planned_calls.calls: staged ahead of their calls

    A row is on the device, below it, or both; then the device's is the newest. All rows together are the table. One that
    was made on the device ahead of its first call is none of it before that call, and goes without trace if it never comes.

    `lock` guards all of it and of its parts but the disk, which has a lock of its own. Each stage of TieredStorage takes it,
    and a Prefetcher's thread to plan and to stage. Methods here do not, but for `summary` and `flush`: their caller holds
    it. It is free while a backend embeds in a table aside, and while rows are read from disk early; where those lay is
    kept beside them, and asked again before they are used.

    Attributes:
      backend, spec, config, owner: the backend of device tables; what the table is; its tiers; who it is on a disk shared
        by tables and ranks.
      slots: optimizers', as of the last `add_slots`.
      device: DeviceTier, the backend's table of K rows and the marks that say which may leave.
      lower: LowerTiers, host memory and disk. The disk is opened when this is first asked for.
      policy: gives scores; rows of lowest score leave first.
      planned_calls: the calls that a Prefetcher knows to come.
      stats: CacheStats since the table was made.
      tick: training calls so far, which policies count by. step, pinned_from: of the last call's Clock; rows that were
        asked for in a step from pinned_from on may have gradients to come, and stay on the device.
      renumbered: how often all rows on the device got other numbers; a gradient made before names rows by old ones.
      elsewhere: keys of the last lookup that are not on the device, which row numbers from ELSEWHERE on mean.
      made, gone, never: keys of each logical table so far, int64 [T], replaced and never written into: that came, that
        were erased, and that were made ahead of a call which did not come before they left the device.
      arrived: how often keys came to the device. layout: another one whenever a row may lie elsewhere.
      budget, portion: of the engine's tables that share bytes, and this one's part of them.
    """

    def __init__(self, backend: Backend, spec: TableSpec, config: CacheConfig, owner: str = "") -> None:
        self.backend, self.spec, self.config, self.owner = backend, spec, config, owner
        self.lock = Turn()
        self.stats = CacheStats()
        self.policy = policy_of(config.policy)
        self._follows_table = isinstance(config.device_rows, str) or isinstance(config.host_rows, str)
        self.slots: tuple[SlotSpec, ...] = ()
        self._closing: Any = None
        check_place(config)
        self._steps = 0  # of a kept disk, as of when it was opened
        self.tick = self.step = self.pinned_from = self.renumbered = 0
        self.made = self.gone = self.never = no_keys(spec)
        self.found = self.unknown = self.arrived = 0
        self.portion: float = 1.0  # of the config's bytes, where tables share them
        self.budget: SharedBudget | None = None
        self.planned_calls = PlannedCalls()
        self.elsewhere: Keys = (np.zeros(0, np.int64), np.zeros(0, np.int32))
        self._build()

    # What there is

    def _build(self) -> None:
        """Empty tiers; the disk is opened when it is first asked for, for optimizers attach later and widen its rows."""
        config = self.config
        host = RowFormat(self.spec, self.slots, config.host_precision, config.host_slots)
        disk = RowFormat(self.spec, self.slots, config.disk_precision, config.disk_slots)
        self._lower = LowerTiers(host, disk, tier_sizes.host_rows(self, host, 0), None, self.stats)
        self._unopened, self._closing = config.disk is not None, None
        self.device = DeviceTier(self.backend, self.spec, self.slots, tier_sizes.device_rows(self, 0), self.policy)

    @property
    def lower(self) -> LowerTiers:
        """What lies below the device.

        Raises:
          RecisError: it was given back.
        """
        self.require_open()
        return self._lower

    def require_open(self) -> None:
        """The disk, which is opened if it is not yet. Raises RecisError as `lower`."""
        if self.closed:
            raise RecisError(
                "the engine was closed, which gave back the rows that its cache had on disk. Call engine.close() last of all; "
                "to go on, build an engine anew: under CacheConfig(keep=True) it finds its rows there."
            )
        if self._unopened:
            self._open()

    def _open(self) -> None:
        """The disk; where it is kept, calls and steps are counted on from its last flush, for its rows' marks are in them."""
        with self.lock:
            if not self._unopened:  # another thread was first
                return
            sharing = 1 if self.budget is None else len(self.budget.states)
            opened = open_disk(self.config, self.owner, self._lower.disk_format, sharing)
            try:
                self._hold(opened)
            except BaseException:
                opened.close(flush=False)
                raise

    def _hold(self, opened: DiskStore) -> None:
        step = opened.numbers.get("step", 0)
        made, tick = self.made + rows_on(opened, self.spec), max(self.tick, opened.numbers.get("tick", 0))
        now, pinned_from = max(self.step, step), max(self.pinned_from, step)
        # Closed when this state goes; not left to the store's own end, for its threads hold it.
        closing = weakref.finalize(self, let_go, opened)
        self._lower.scratch, self._lower.disk, self.lock.disk = not self.config.keep, opened, opened.path
        self.made, self.tick, self.step, self.pinned_from = made, tick, now, pinned_from
        self._steps, self._closing, self._unopened = step, closing, False

    def steps_on_disk(self) -> int:
        """Optimizer steps that a kept disk had seen when it was opened, which this does; else 0."""
        if self.config.keep and self._unopened:
            self._open()
        return self._steps

    @property
    def host_format(self) -> RowFormat:
        return self._lower.host_format

    def bound_host(self, rows: int | None) -> None:
        self._lower.host_rows = rows

    @property
    def inner(self) -> Any:
        """The backend's state."""
        return self.device.state

    @inner.setter
    def inner(self, state: Any) -> None:
        self.device.state = state

    @property
    def inner_device(self) -> torch.device:
        return self.device.device

    @property
    def table_rows(self) -> int:
        """Rows that were inserted and not erased, and those made ahead of their call."""
        return int((self.made - self.gone - self.never).sum())

    @property
    def inserted(self) -> int:
        return int(self.made.sum())

    def rows_by_table(self) -> np.ndarray:
        """int64 [T]: keys of each logical table, in any tier. No tier below the device is read, but a disk is opened."""
        self.require_open()
        rows = self.device.index.all_rows()
        early = rows[~self.device.is_known(rows)]
        ahead = counted(self.spec, self.device.index.at["tables"][early])
        return np.asarray(self.made - self.gone - self.never - ahead)

    @property
    def layout(self) -> tuple[int, ...]:
        counts = self.stats.counts
        moved = (counts[name] for name in ("evicted", "written_to_host", "written_to_disk", "spilled"))
        return self.inserted, int(self.gone.sum()), self.arrived, self.renumbered, *moved

    def add_slots(self, slots: tuple[SlotSpec, ...]) -> None:
        """Rows that are there get them, wherever they lie.

        Raises:
          RecisError: they lie on a disk that is kept.
          TableFull, StorageFull: wider rows find no room; all are as before.
        """
        added = {slot.name: slot for slot in self.slots} | {slot.name: slot for slot in slots}
        for slot in self.slots:
            if added[slot.name] != slot:
                raise ValueError(f"slot {slot.name!r} exists as {slot}; got {added[slot.name]}.")
        if tuple(added.values()) != self.slots:
            self._widen(tuple(added.values()))

    def _widen(self, slots: tuple[SlotSpec, ...]) -> None:
        """Empty tiers of wider rows, which are filled before those that were are given back."""
        from recis_core.table.tiers.tier_snapshot import export, restore

        if self.config.keep and not self._unopened:
            new = ", ".join(slot.name for slot in slots if slot not in self.slots)
            raise RecisError(
                f"rows kept in {str(self.config.disk)!r} were opened without {new}. Make the optimizer before the engine's "
                "first call."
            )
        staging.unstage(self)
        rows = None if self._unopened else export(self)
        before = {
            name: getattr(self, name)
            for name in ("slots", "device", "made", "never", "_lower", "_unopened", "_closing")
        }
        self.slots = slots
        try:
            self._build()
            if rows is not None:
                restore(self, rows)
                self.lower.settle()
        except BaseException:
            if self._closing is not before["_closing"]:
                self.close()
            vars(self).update(before)
            raise
        self.renumbered += 1
        if rows is not None:
            self.made, self.never = self.gone + counted(self.spec, rows.tables.numpy()), no_keys(self.spec)  # as before
        if before["_closing"] is not None:
            before["_closing"]()

    # A call

    def starts(self, clock: Clock) -> None:
        """Before a call: tiers grow with the table, and what a full disk still owes is settled, or raises again."""
        lower = self.lower  # first, for a disk that is opened says another step
        self.step, self.pinned_from = clock.step, clock.pinned_from
        if self._follows_table:
            tier_sizes.follow_share(self)
        lower.start_call()
        if isinstance(self.policy, Ttl):
            expired = self.device.expired(self.pinned_from, self.policy)
            if len(expired):
                self.depart(expired)

    def lookup(self, ids: np.ndarray, tables: np.ndarray, counts: np.ndarray, mode: LookupMode) -> np.ndarray:
        """Row numbers int32 [U] of unique keys, ELSEWHERE and up of those below the device, -1 for unknown. The call is counted.

        counts: int32 [U], how often the call has each.
        """
        call = None
        try:
            call = self.ask(ids, tables, counts, mode)
            away = np.flatnonzero(call.rows == AWAY)
            if mode.insert and len(away):
                self._read_away(call)
            rows, elsewhere = np.maximum(call.rows, -1), call.keys(away)
            rows[away] = ELSEWHERE + np.arange(len(away))
            self.count(call)
        except BaseException:
            if call is not None:
                self.take_back(call)
            raise
        self.elsewhere = elsewhere
        return rows

    def embed(
        self, call: LookupCall, *, mode: LookupMode, clock: Clock, weights_need_grad: tuple[bool, ...]
    ) -> tuple[list[Tensor], Any, int | None]:
        """A call's outputs, what the backend keeps for its backward, and `renumbered` where its rows are the device's."""
        asked = None
        try:
            keys, asked = self.prepare(call, mode)
            how: Any = {"mode": mode, "clock": clock, "weights_need_grad": weights_need_grad}
            known = asked.rows >= 0
            fits = bool((known | (asked.rows == UNKNOWN)).all())
            if fits:
                outputs, kept = self.device.embed(call, keys, np.maximum(asked.rows, -1), **how)
            else:
                outputs, kept = self.device.embed_values(call, keys, self._values_of(asked, known), known, **how)
            result = outputs, kept, self.renumbered if fits else None
            self.count(asked)
        except BaseException:
            if asked is not None:
                self.take_back(asked)
            raise
        return result

    def _values_of(self, call: CallKeys, known: np.ndarray) -> Tensor:
        """float32 [U, D], wherever rows lie. known: which keys have a row on the device; it gets the others that have one."""
        mode = call.mode
        unknown = "initial" if mode.insert else mode.unknown
        values = self.device.values(np.maximum(call.rows, -1), call.ids, call.tables, unknown)
        fetched = self._read_away(call, values)
        below = np.flatnonzero(call.rows == AWAY)[fetched.found]
        values[torch.from_numpy(below).to(values.device)] = fetched.rows.weights.to(values.device).float()
        known[below] = True
        if mode.insert:
            known[:] = True
        return values

    def _read_away(self, call: CallKeys, values: Tensor | None = None) -> Fetched:
        """Rows of keys that are AWAY, where they lie; new ones are written there, if the call is a use.

        values: float32 [U, D], new keys' initial ones among them.
        """
        fetched = self.lower.read_at(call.places)
        call.read_away(fetched)
        if call.uses and not (known := call.places.known).all():
            self._begin_below(call, np.flatnonzero(~known), values)
        return fetched

    def _begin_below(self, call: CallKeys, which: np.ndarray, values: Tensor | None) -> None:
        """New keys, of those AWAY, that find no place on the device are known from now on, and were not used yet."""
        begun = np.flatnonzero(call.rows == AWAY)[which]
        ids, tables = call.keys(begun)
        weights = (
            self.device.initial(ids, tables) if values is None else values[torch.from_numpy(begun).to(values.device)]
        )
        rows = new_rows(self.device, self.lower, weights, step=self.step, tick=call.tick)
        call.begun, call.below[which], call.scores[which] = begun, True, rows.marks["score"]
        self.lower.write(ids, tables, rows)
        self.made = self.made + counted(self.spec, tables)

    def prepare(self, call: LookupCall, mode: LookupMode) -> tuple[Unique, CallKeys]:
        """Bring a call's rows to the device, as `ask`. Its unique keys, and where they are."""
        planned, ready = None, False
        if self.planned_calls.calls and mode.learns:
            planned, ready = staging.take(self, call)
        keys = staging.unique_keys(call) if planned is None else planned.keys
        return keys, self.ask(keys.ids, keys.tables, keys.counts, mode, planned, ready=ready)

    def ask(
        self,
        ids: np.ndarray,
        tables: np.ndarray,
        counts: np.ndarray,
        mode: LookupMode,
        planned: PlannedCall | None = None,
        *,
        ready: bool = False,
    ) -> CallKeys:
        """Where unique keys are, after those that `mode` inserts were brought to the device as far as they find room.

        Nothing of the table changes: `count` follows, or `take_back` where something breaks off before it.
        planned: these keys as they were planned; ready, if all are where that says.
        """
        call = CallKeys(ids, tables, counts, mode, self.tick + (mode.insert and mode.touch), planned, self.made)
        try:
            if not mode.insert:
                self._find(call)
            elif ready and planned is not None and planned.rows is not None:
                call.rows, call.found = planned.rows, planned.found
            else:
                self._bring(call)
            return call
        except BaseException:
            self.take_back(call)
            raise

    def _find(self, call: CallKeys) -> None:
        """Row numbers; AWAY of keys that lie below, EARLY and UNKNOWN of those that are nowhere yet."""
        rows = self.device.find(call.ids, call.tables)
        missing = np.flatnonzero(rows < 0)
        places = self.lower.find(*call.keys(missing))
        known = places.known
        rows[missing], call.places = np.where(known, AWAY, UNKNOWN), places.pick(known)
        rows[(rows >= 0) & ~self.device.is_known(rows)] = EARLY
        call.rows = rows

    def _bring(self, call: CallKeys) -> None:
        """Its keys to the device, as many as it holds beside pinned rows; AWAY for the others."""
        rows = self.device.find(call.ids, call.tables)
        found, missing = np.full(len(rows), ON_DEVICE), np.flatnonzero(rows < 0)
        if len(missing):
            call.missing = missing
            rows[missing], found[missing], call.places = self.bring_missing(
                call.ids, call.tables, missing, rows[rows >= 0], call.tick
            )
        staged = None if call.planned is None else call.planned.found
        call.rows, call.found = rows, found if staged is None else staged  # where they were before they were staged

    def bring_missing(
        self,
        ids: np.ndarray,
        tables: np.ndarray,
        missing: np.ndarray,
        kept: np.ndarray,
        tick: int,
        early: Early | None = None,
    ) -> tuple[np.ndarray, np.ndarray, Places]:
        """Rows int32 [m] for keys[missing], -1 where none could leave for them, where each was, and where those lie that
        are not on the device now; rows `kept` stay.
        """
        room = self._room_for(len(missing), kept)
        places = self.lower.find(ids[missing], tables[missing])
        coming = places.pick(slice(0, room))
        fetched = self.lower.read_at(coming, None if early is None else early.pick(missing[:room]))
        rows = np.full(len(missing), -1, np.int32)
        rows[:room] = self.put_in(coming.ids, coming.tables, fetched.found, fetched.rows, tick)
        found = np.where(places.host >= 0, IN_HOST, np.where(places.disk >= 0, ON_DISK, NOWHERE))
        return rows, found, places.pick(slice(room, None))

    def put_in(self, ids: np.ndarray, tables: np.ndarray, found: np.ndarray, rows: Rows, tick: int) -> np.ndarray:
        """Keys that are not on the device get rows there, as DeviceTier.put_in has it."""
        try:
            mine = self.device.put_in(ids, tables, found, rows, tick)
        except BaseException:
            self.lock.whole(self.device.settle)
            raise
        fill(self.device.index.at["used"], mine[~found], self.step)
        self.made, self.arrived = self.made + counted(self.spec, tables[~found]), self.arrived + 1
        return mine

    def _room_for(self, count: int, kept: np.ndarray) -> int:
        """How many of so many keys find room on the device, after rows left for them."""
        room = self.device.room
        if count <= room:
            return count
        if not self.policy.moves_rows:
            raise TableFull(
                f"{count} new ids need rows; the device holds {self.device.capacity} and policy 'none' lets none leave. "
                "Raise device_bytes or device_rows, or let rows leave with policy 'lfu'."
            )
        leave = self.device.victims(count - room, self.pinned_from, self.planned_calls.consumed, kept)
        self.depart(leave)
        return room + len(leave)

    def count(self, call: CallKeys) -> None:
        """The call came: what it asked for is known, and used."""
        call.stats = self.stats.counts.copy()
        self._count_in_stats(call)
        here = np.flatnonzero(call.rows >= 0)
        rows = call.rows if len(here) == len(call.rows) else call.rows[here]
        used, at = call.used_below(self.policy), self.device.index.at
        if call.uses:
            self.policy.touch(at["score"], rows, call.counts[here], call.tick)
        if call.planned is not None and call.planned.following is not None:
            put(at["next_use"], rows, call.planned.following[here])
        self.lock.whole(partial(self._commit, call, rows, used, self.lower.uses_added))
        self.lower.write_deferred_if_many()

    def _count_in_stats(self, call: CallKeys) -> None:
        if call.uses and call.found is not None:
            self.stats.asked(call.counts, call.found)
        if not call.mode.insert and call.planned is not None:
            staging.count_brought(self, call.planned)
        if call.mode.insert and call.away is not None:
            self.stats.count("overflowed", len(call.away))

    def _commit(self, call: CallKeys, rows: np.ndarray, used: Uses | None, added: int) -> None:
        """May be called again wherever it was broken off: what it has done already is known by counts."""
        if used is not None and self.lower.uses_added == added:
            self.lower.used(used[0], used[1], self.step, scores=used[2])
        if call.counted:
            return
        below, found, uses = int((call.rows == AWAY).sum()), self.found, call.uses
        if call.mode.insert:
            found += below - len(call.begun) if uses and call.away is not None else 0
            # In one line: what it changes in rows, and that it did.
            self.found, self.tick, call.counted = (
                found + uses * self.device.use(rows, self.step, touch=uses), call.tick, True
            )  # fmt: skip
        elif call.mode.touch:
            unknown = self.unknown + len(call.rows) - below - len(rows)
            self.found, self.unknown, call.counted = (
                found + below + self.device.touch(rows, self.step), unknown, True
            )  # fmt: skip

    def take_back(self, call: CallKeys) -> None:
        """The call broke off, and if it was not counted, it never came: its new keys are unknown again."""
        self.lock.whole(partial(self._take_back, call))

    def _take_back(self, call: CallKeys) -> None:
        """Whether it was counted is known in here alone: a count that broke off, too, is finished before."""
        if call.counted:
            return
        self.device.settle()
        rows = self.device.find(*call.keys(call.missing))
        rows = rows[rows >= 0]
        self.device.drop(rows[~self.device.is_known(rows)])
        if len(call.begun):
            self.lower.erase(*call.keys(call.begun))
        self.made = call.made
        if call.stats is not None:
            self.stats.counts = call.stats.copy()

    def change(self, below: Keys, change_below: Change, here: np.ndarray, change_here: Callable[[Any], Any]) -> None:
        """Rows below the device, by key, and rows on it, by number: change_below(table, numbers) -> table, and
        change_here(table) -> table. Both happen, or neither.
        """
        changed = made = None
        try:
            if len(below[0]):
                changed = changed_rows(self.device, self.lower, *below, change_below, step=self.step, tick=self.tick)
                made = self.made
                changed.write(self.lower)
                self.made = made + counted(self.spec, changed.ids[~changed.before.found])
            self.device.changed(here)
            self.device.state = change_here(self.device.state)
        except BaseException:
            if changed is not None and made is not None:
                self.lock.whole(partial(self._take_change_back, changed, made))
            raise

    def _take_change_back(self, changed: Changed, made: np.ndarray) -> None:
        changed.take_back(self.lower)
        self.made = made

    def read_slot_elsewhere(self, name: str, which: np.ndarray) -> Tensor:
        """float32 [n, width] of keys of the last lookup that were not on the device."""
        slot = next(slot for slot in self.slots if slot.name == name)
        return slot_of(self.lower, slot, self.elsewhere[0][which], self.elsewhere[1][which])

    def depart(self, rows: np.ndarray) -> None:
        """Rows leave the device; those that are new or changed there are written back, of others what was used."""
        leaving = self.device.leaving(rows)
        never = self.never + counted(self.spec, leaving.early) if len(leaving.early) else self.never
        if len(leaving.uses[0]):
            self.lower.used(*leaving.uses)
        if len(leaving.keys[0]):
            self.lower.write(*leaving.keys, leaving.rows)
        self.lock.whole(partial(self._drop, rows, never))
        self.stats.count("evicted", len(rows))
        self.stats.count("written_back", len(leaving.keys[0]))
        self.lower.write_deferred_if_many()

    def _drop(self, rows: np.ndarray, never: np.ndarray) -> None:
        self.device.drop(rows)
        self.never = never

    # The rest

    def overwrite(self, rows: np.ndarray, values: Rows) -> None:
        """Rows on the device, by number."""
        at = torch.from_numpy(rows).to(self.inner_device)
        slots = {name: value.to(self.inner_device) for name, value in values.slots.items()}
        self.device.changed(rows)
        self.inner = self.backend.write_rows(self.inner, at, values.weights.to(self.inner_device), slots)

    def updated(self) -> None:
        """After an optimizer step, which is whole by then: where shares of bytes cannot change now, they stay as they are."""
        if self.budget is not None:
            with suppress(MemoryError, StorageFull, TableFull):
                self.budget.stepped(self)

    def erase(self, ids: np.ndarray, tables: np.ndarray) -> None:
        staging.unstage(self)
        here = (self.device.find(ids, tables) >= 0) | self.lower.find(ids, tables).known
        gone = self.gone + counted(self.spec, tables[here]), self.stats.counts["erased"] + int(here.sum())
        self.lock.whole(partial(self._erase, ids, tables, *gone))

    def _erase(self, ids: np.ndarray, tables: np.ndarray, gone: np.ndarray, in_stats: int) -> None:
        below = self.lower.find(ids, tables).known
        self.lower.erase(ids[below], tables[below])  # first, for a full disk may refuse
        rows = self.device.find(ids, tables)
        self.device.drop(rows[rows >= 0])
        self.gone, self.stats.counts["erased"] = gone, in_stats

    def summary(self) -> dict[str, int]:
        """For a table's stats(): what CacheStats says."""
        with self.lock:
            return summary(self.stats, self.device, self.lower)

    def counters(self) -> Counters:
        rows = int(self.rows_by_table().sum())
        inner, count = self.backend.counters(self.inner), self.stats.counts
        return Counters(
            found=self.found, inserted=self.inserted, unknown=self.unknown, evicted=count["evicted"],
            erased=count["erased"], stashed=inner.stashed, rows=rows, buckets=inner.buckets,
        )  # fmt: skip

    def known_rows(self) -> int:
        """Keys in any tier, each counted once."""
        keys = self.device.index.keys(self.device.known_rows())
        return self.lower.known_rows() + int((~self.lower.find(*keys).known).sum())

    def flush(self, steps: int) -> None:
        """Every row on disk, and kept there with the table's count of optimizer steps; nothing where there is no disk."""
        if self.config.disk is None:
            return
        with self.lock:
            rows = self.device.index.all_rows()
            rows = np.concatenate([self.device.unsaved(rows), self.device.with_unwritten_uses(rows)])
            with uninterrupted():
                self._save(rows)
                self.lower.settle()
            self.lower.flush({"tick": self.tick, "step": steps})

    def _save(self, rows: np.ndarray) -> None:
        """Rows on the device also below it."""
        keys = self.device.index.keys(rows)
        values = self.device.read(rows)
        fill(self.device.index.at["dirty"], rows, True)  # if this breaks off, all of them is written again, uses too
        self.lower.write(*keys, values)
        self.device.saved(rows)

    @property
    def opened(self) -> bool:
        """Whether there is a disk that has been asked for."""
        return self._closing is not None

    @property
    def closed(self) -> bool:
        return self._closing is not None and not self._closing.alive

    def close(self, flush_at: int | None = None) -> None:
        """Give back what the disk tier holds of threads and files, once.

        flush_at: the table's steps, to flush before what is kept. Without, it is as the last flush left it.

        Raises:
          StorageFull, MemoryError: nothing was given back or lost; call again once there is room.
          RecisError, OSError: what was wrong with the disk. All is given back, and a kept disk is as its last flush left it.
        """
        if not self.opened or self.closed or self.lock.forked:
            return
        try:
            if flush_at is not None and self.config.keep:
                self.flush(flush_at)
        except (StorageFull, MemoryError):
            raise
        except Exception:
            self._closing()
            raise
        self._give_back()

    @as_one
    def _give_back(self) -> None:
        detached = None if self._closing is None else self._closing.detach()
        if detached is not None:
            detached[2][0].close(flush=False)


def let_go(store: DiskStore) -> None:
    """Of a state that went, or whose process ends; what goes wrong has nobody to tell."""
    try:
        store.close(flush=False)
    except Exception as error:
        LOG.warning("%s was closed, but: %s", store.path, error)
