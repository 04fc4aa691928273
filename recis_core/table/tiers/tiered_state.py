"""One table's tiers, and how rows move between them, under the table's lock.

Sizes: N ids of a call, U unique keys, n keys, K rows on the device at most.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from recis_core.backends import Backend, Clock, Counters, SlotSpec, Snapshot, TableSpec
from recis_core.backends.errors import RecisError, StorageFull, TableFull
from recis_core.backends.tier_loops.columns import fill
from recis_core.options.cache_config import CacheConfig
from recis_core.options.cache_policy import Ttl, policy_of
from recis_core.table.tiers import tier_sizes
from recis_core.table.tiers.cache_stats import CacheStats, summary
from recis_core.table.tiers.device_tier import DeviceTier
from recis_core.table.tiers.disk_handle import DiskHandle
from recis_core.table.tiers.disk_place import check_place, open_disk
from recis_core.table.tiers.key_counts import KeyCounts
from recis_core.table.tiers.lower_tiers import LowerTiers, Places
from recis_core.table.tiers.planned_calls import Early, PlannedCalls
from recis_core.table.tiers.row_format import RowFormat, Rows
from recis_core.table.tiers.tier_snapshot import export, restore
from recis_core.table.tiers.turn import Turn
from recis_core.uninterrupted import uninterrupted

if TYPE_CHECKING:
    from recis_core.table.disk import DiskStore
    from recis_core.table.tiers.shared_budget import SharedBudget

KeyArrays = tuple[np.ndarray, np.ndarray]  # ids int64 [n], tables int32 [n]


class TieredState:
    """Of one physical table: its rows on the device and below, and the counts of what came and went.

        device ── depart ──> lower.host ──> lower.disk        bring, put_in: the other way
        ^ held for planned_calls: staged ahead

    A row is on the device, below it, or both; then the device's is the newest. A row prefetched for an unknown id is not part
    of the table until its call comes; if none comes, the row is dropped.

    `lock` guards all of this but the disk, which has a lock of its own. Callers hold it, except of `summary`, `flush` and
    `close`. A Prefetcher's thread takes it to plan and to stage, and reads from disk without it.

    Attributes:
      backend, spec, config, owner: the backend of device tables; the table; its tiers; its name on a shared disk.
      slots: optimizers', as of the last `add_slots`.
      device: DeviceTier, rows that are trained.
      lower: LowerTiers, host memory and disk. Reading it opens the disk. disk: DiskHandle, whether that happened.
      policy: gives scores; rows of lowest score leave first.
      planned_calls: calls that a Prefetcher announced.
      stats: CacheStats since the table was made.
      tick: training calls so far, which policies count by. step, pinned_from: of the last call's Clock; rows used in a step
        from pinned_from on may still get gradients, and stay on the device.
      renumbered: how often all rows on the device got other numbers; a gradient made before has old ones.
      elsewhere: keys of the last lookup that were not on the device; their row numbers begin at ELSEWHERE.
      counts: KeyCounts. found, unknown: keys of calls, for Counters.
      arrived: how often keys came to the device. layout: changes whenever a row may have moved.
      budget, portion: of tables that share bytes, and this table's part of them.
    """

    def __init__(self, backend: Backend, spec: TableSpec, config: CacheConfig, owner: str = "") -> None:
        self.backend, self.spec, self.config, self.owner = backend, spec, config, owner
        self.lock = Turn()
        self.stats = CacheStats()
        self.policy = policy_of(config.policy)
        self._follows_table = isinstance(config.device_rows, str) or isinstance(config.host_rows, str)
        self.slots: tuple[SlotSpec, ...] = ()
        check_place(config)
        self._steps = 0  # of a kept disk, as of when it was opened
        self.tick = self.step = self.pinned_from = self.renumbered = 0
        self.counts = KeyCounts(len(spec.uids))
        self.found = self.unknown = self.arrived = 0
        self.portion: float = 1.0  # of the config's bytes, where tables share them
        self.budget: SharedBudget | None = None
        self.planned_calls = PlannedCalls()
        self.elsewhere: KeyArrays = (np.zeros(0, np.int64), np.zeros(0, np.int32))
        self._build()

    # What there is

    def _build(self) -> None:
        """Empty tiers. The disk is opened when first used, for optimizers attach later and widen its rows."""
        config = self.config
        host = RowFormat(self.spec, self.slots, config.host_precision, config.host_slots)
        disk = RowFormat(self.spec, self.slots, config.disk_precision, config.disk_slots)
        rows, host_rows = self._sizes(self.portion, 0, host)
        self._lower = LowerTiers(host, disk, host_rows, None, self.stats)
        self.disk = DiskHandle(wanted=config.disk is not None)
        self.device = DeviceTier(self.backend, self.spec, self.slots, rows, self.policy)

    @property
    def lower(self) -> LowerTiers:
        """What lies below the device.

        Raises:
          RecisError: it was given back.
        """
        if self.config.disk is not None:
            self._require_open()
        return self._lower

    def _require_open(self) -> None:
        self.disk.require_not_closed()
        if self.disk.unopened:
            self._open()

    def _open(self) -> None:
        """Open the disk. Calls and steps count on from a kept disk's last flush, for its rows' marks are in them."""
        with self.lock:
            if not self.disk.unopened:  # another thread was first
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
        made, tick = self.counts.made + self.counts.on_disk(opened), max(self.tick, opened.numbers.get("tick", 0))
        now, pinned_from = max(self.step, step), max(self.pinned_from, step)
        closing = self.disk.closing_of(opened)
        self._lower.scratch, self._lower.disk, self.lock.disk = not self.config.keep, opened, opened.path
        self.counts.made, self.tick, self.step, self.pinned_from = made, tick, now, pinned_from
        self._steps, self.disk.closing = step, closing

    def steps_on_disk(self) -> int:
        """Optimizer steps that a kept disk had seen when it was opened, which this does; else 0."""
        if self.config.keep and self.disk.unopened:
            self._open()
        return self._steps

    @property
    def table_rows(self) -> int:
        """Rows of the table, and those prefetched for new ids."""
        return int(self.counts.rows.sum())

    @property
    def inserted(self) -> int:
        return int(self.counts.made.sum())

    def rows_by_table(self) -> np.ndarray:
        """int64 [T]: rows of each logical table, in all tiers. Reads no tier below the device, but opens the disk."""
        if self.config.disk is not None:
            self._require_open()
        rows = self.device.index.all_rows()
        early = rows[~self.device.is_known(rows)]
        return self.counts.rows - self.counts.of(self.device.index.at["tables"][early])

    @property
    def layout(self) -> tuple[int, ...]:
        counts = self.stats.counts
        moved = (counts[name] for name in ("evicted", "written_to_host", "written_to_disk", "spilled"))
        return self.inserted, int(self.counts.gone.sum()), self.arrived, self.renumbered, *moved

    def add_slots(self, slots: tuple[SlotSpec, ...]) -> None:
        """Give all rows these slots, wherever they are.

        Raises:
          RecisError: rows are on a disk that is kept.
          TableFull, StorageFull: wider rows find no room; all are as before.
        """
        added = {slot.name: slot for slot in self.slots} | {slot.name: slot for slot in slots}
        for slot in self.slots:
            if added[slot.name] != slot:
                raise ValueError(f"slot {slot.name!r} exists as {slot}; got {added[slot.name]}.")
        if tuple(added.values()) != self.slots:
            self._widen(tuple(added.values()))

    def _widen(self, slots: tuple[SlotSpec, ...]) -> None:
        """Fill new tiers with wider rows, and then give the old ones back."""
        if self.config.keep and not self.disk.unopened:
            new = ", ".join(slot.name for slot in slots if slot not in self.slots)
            raise RecisError(
                f"rows kept in {str(self.config.disk)!r} were opened without {new}. Make the optimizer before the engine's "
                "first call."
            )
        self.planned_calls.unstage(self.device)
        rows = None if self.disk.unopened else export(self.device, self.lower)
        before = {name: vars(self)[name] for name in ("slots", "device", "counts", "_lower", "disk")}
        self.slots = slots
        try:
            self._build()
            if rows is not None:
                self.counts = self.counts.emptied()
                self.restore(rows)
                self.lower.settle()
        except BaseException:
            if self.disk is not before["disk"]:
                self.close()
            vars(self).update(before)
            raise
        self.renumbered += 1
        before["disk"].let_go()

    # Calls; see TieredCall

    def starts(self, clock: Clock) -> None:
        """Before a call: tiers grow with the table, and host memory comes back within its bound, or raises."""
        lower = self.lower  # first: opening the disk sets another step
        self.step, self.pinned_from = clock.step, clock.pinned_from
        if self._follows_table:
            self._follow_table()
        lower.start_call()
        if isinstance(self.policy, Ttl):
            expired = self.device.expired(self.pinned_from, self.policy)
            if len(expired):
                self.depart(expired)

    def bring(
        self, ids: np.ndarray, tables: np.ndarray, *, kept: np.ndarray, tick: int, early: Early | None = None
    ) -> tuple[np.ndarray, np.ndarray, Places]:
        """Bring keys to the device that are not there: row numbers int32 [n], -1 for those without room; the tier where each
        was; and the places of those without room. Rows `kept` do not leave.
        """
        room = self._room_for(len(ids), kept)
        places = self.lower.find(ids, tables)
        coming = places.pick(slice(0, room))
        fetched = self.lower.read_at(coming, None if early is None else early.pick(slice(0, room)))
        rows = np.full(len(ids), -1, np.int32)
        rows[:room] = self.put_in(coming.ids, coming.tables, fetched.found, fetched.rows, tick)
        return rows, places.tiers, places.pick(slice(room, None))

    def put_in(self, ids: np.ndarray, tables: np.ndarray, found: np.ndarray, rows: Rows, tick: int) -> np.ndarray:
        """DeviceTier.put_in, counted; settled if it breaks off."""
        try:
            mine = self.device.put_in(ids, tables, found, rows, tick)
        except BaseException:
            self.lock.whole(self.device.settle)
            raise
        fill(self.device.index.at["used"], mine[~found], self.step)
        self.arrived += 1
        self.counts.came(tables[~found])
        return mine

    def _room_for(self, count: int, kept: np.ndarray) -> int:
        """How many of `count` keys have room on the device, after rows left for them."""
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

    def depart(self, rows: np.ndarray) -> None:
        """Rows leave the device. New and changed ones are written back; of others only their uses are noted."""
        leaving = self.device.leaving(rows)
        never = self.counts.never + self.counts.of(leaving.early) if len(leaving.early) else self.counts.never
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
        self.counts.never = never

    # The rest

    def restore(self, snapshot: Snapshot) -> None:
        restore(self.device, self.lower, self.counts, self.lock, snapshot, self.tick)

    # Sizes

    def take_portion(self, portion: float) -> None:
        """Resize to this portion of the config's bytes. Does not open the disk."""
        wanted, host = self._sizes(portion, self.table_rows, self._lower.host_format)
        if wanted != self.device.capacity:
            self.resize(wanted)
        self._lower.host_rows, self.portion = host, portion

    def _sizes(self, portion: float, table_rows: int, in_host: RowFormat) -> tuple[int, int | None]:
        """Bounds in rows of the device and of host memory."""
        device = tier_sizes.device_rows(self.config, self.row_bytes, portion, table_rows)
        return device, tier_sizes.host_rows(self.config, in_host.row_bytes, portion, table_rows)

    @property
    def row_bytes(self) -> int:
        """Of one row on the device, slots and index included."""
        return tier_sizes.device_row_bytes(self.spec, self.slots)

    def _follow_table(self) -> None:
        """Tiers whose bound is a share of the table's rows grow with it."""
        wanted, host = self._sizes(self.portion, self.table_rows, self._lower.host_format)
        if isinstance(self.config.host_rows, str):
            self._lower.host_rows = host
        if isinstance(self.config.device_rows, str) and wanted > tier_sizes.NOTICED * self.device.capacity:
            self.resize(wanted)

    def resize(self, capacity: int) -> None:
        """Change how many rows the device holds; rows get other numbers."""
        self.planned_calls.unstage(self.device)
        old = self.device
        over = len(old) - capacity
        if over > 0:
            self.depart(old.victims(over, self.pinned_from, self.planned_calls.consumed, np.zeros(0, np.int64)))
        new = old.resized(capacity, self.tick)
        self.device, self.renumbered = new, self.renumbered + 1  # once it is whole

    def updated(self) -> None:
        """After an optimizer step: tables may share bytes anew; without room for that, shares stay as they are."""
        if self.budget is not None:
            with suppress(MemoryError, StorageFull, TableFull):
                self.budget.stepped(self)

    def erase(self, ids: np.ndarray, tables: np.ndarray) -> None:
        self.planned_calls.unstage(self.device)
        here = (self.device.find(ids, tables) >= 0) | self.lower.find(ids, tables).known
        gone = self.counts.gone + self.counts.of(tables[here]), self.stats.counts["erased"] + int(here.sum())
        self.lock.whole(partial(self._erase, ids, tables, *gone))

    def _erase(self, ids: np.ndarray, tables: np.ndarray, gone: np.ndarray, in_stats: int) -> None:
        below = self.lower.find(ids, tables).known
        self.lower.erase(ids[below], tables[below])  # first, for a full disk may refuse
        rows = self.device.find(ids, tables)
        self.device.drop(rows[rows >= 0])
        self.counts.gone, self.stats.counts["erased"] = gone, in_stats

    def summary(self) -> dict[str, int]:
        """CacheStats, for a table's stats()."""
        with self.lock:
            return summary(self.stats, self.device, self.lower)

    def counters(self) -> Counters:
        rows = int(self.rows_by_table().sum())
        inner, count = self.backend.counters(self.device.state), self.stats.counts
        return Counters(
            found=self.found, inserted=self.inserted, unknown=self.unknown, evicted=count["evicted"],
            erased=count["erased"], stashed=inner.stashed, rows=rows, buckets=inner.buckets,
        )  # fmt: skip

    def known_rows(self) -> int:
        """Keys in any tier, each counted once."""
        keys = self.device.index.keys(self.device.known_rows())
        return self.lower.known_rows() + int((~self.lower.find(*keys).known).sum())

    def flush(self, steps: int) -> None:
        """Write every row to disk, and keep it there with the table's count of optimizer steps. Without a disk, do nothing."""
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
        """Write rows of the device below it; they stay."""
        keys = self.device.index.keys(rows)
        values = self.device.read(rows)
        fill(self.device.index.at["dirty"], rows, True)  # if this breaks off, rows are written again, with their uses
        self.lower.write(*keys, values)
        self.device.saved(rows)

    def close(self, flush_at: int | None = None) -> None:
        """Give back the disk's threads and files, once.

        flush_at: the table's count of steps, to flush a kept disk first. None: the disk stays as the last flush left it.

        Raises:
          StorageFull, MemoryError: nothing was given back or lost; call again once there is room.
          RecisError, OSError: the disk's error. All is given back, and a kept disk is as its last flush left it.
        """
        if self.disk.closing is None or self.disk.closed or self.lock.forked:
            return
        try:
            if flush_at is not None and self.config.keep:
                self.flush(flush_at)
        except (StorageFull, MemoryError):
            raise
        except Exception:
            self.disk.let_go()
            raise
        self.disk.give_back()
