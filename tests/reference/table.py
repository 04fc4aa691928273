"""One physical table, one key at a time: what every backend's placement is compared with.

Canonical rules, the same on every backend; backends.placement says them in words.

Keys      order by (uint32 uid, signed id). A stash entry k has slot number -1 - k, a way bucket * W + way.
A call    1. with insert, a table that grows does so: buckets = grown_buckets(buckets, keys incl. stash, incoming),
             incoming = N raw ids (embed) or U (lookup, restore); 2. find; 3. touch what was found; 4. insert the rest.
Touch     stamp = clock.step; score "step": clock.step, "count": + 1 a call. Also under find only, also in the stash.
          touch=False moves no score, stamp or counter of what is found or unknown. A new key begins with
          stamp = clock.step and score clock.step or 1. Needs clock.pinned_from <= clock.step, so that no key of a
          call is a victim of that same call.
Chunks    new keys in order, CHUNK at a time. Free and occupied ways of a chunk are as they were at its start.
FREE      over the chunk's keys, with evict only over its first F = max_rows - rows in use.
          lists[t] = bucket t's free ways by number; a key asks a if left[a] >= left[b], else b.
EVICT     only if the spec evicts; over all keys still pending, in order, with `used` counted anew from 0.
          lists[t] = bucket t's occupied ways with stamp < clock.pinned_from, by (score, uid, id), and no free way;
          a key asks the bucket whose next victim has the lower score; a tie: a; an empty list is infinity.
Rounds    r = 0..7: left[t] = len(lists[t]) - used[t]; rank = position among pending keys that ask t; quota = left[t] in
          round 7, else ceil(left[t] / 2); rank < quota takes lists[t][used[t] + rank]. left and used as at round start.
Rows      a key that displaces another takes over its row. The chunk's other keys, in order, stashed ones too, pop the
          free stack from its top and then take fresh rows next_row, next_row + 1, ...
Stash     a key still pending is appended, in order. No free row or no stash entry left for it: TableFull, and the
          table is as before the call. Entries are never victims, and leave only by erase (the gap closes) or growth.
Growth    doubles by the next bit: a key in bucket a & (S - 1) goes to a & (2S - 1), else to b & (2S - 1); it keeps its
          way number. After all doublings of one growth the stash, in key order, is placed by one FREE phase, keeping
          row, score and stamp; what is left stays in the stash, in key order.
Erase     rows go on the free stack in ascending order, so that the highest is popped first.
Values    a new row is its initial value, for bfloat16 rounded to nearest even; so reads an unknown id as "initial".
Restore   into an empty table with placement given and equal buckets (a table that grows takes the snapshot's):
          exactly as saved. Otherwise found or inserted as by a lookup at Clock(0, 0), touch=False; scores and
          stamps are then overwritten where the snapshot has them.
Counters  unique keys a call; rows, buckets and stashed are as of now.

Sizes: U unique ids, S buckets, W ways, D dim.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from recis_core.backends import placement
from recis_core.backends.errors import TableFull
from recis_core.backends.initial_values import initial_values
from recis_core.backends.spec import Clock, Counters, LookupMode, SlotSpec, TableSpec
from tests.reference.rounding import nearest_bfloat16

W = placement.WAYS
Key = tuple[int, int]  # (uid, signed id)


@dataclass(eq=False)
class Entry:
    """A key, where it is and what its row holds. slot is None in the stash."""

    key: Key
    a: int
    b: int
    weights: np.ndarray
    slots: dict[str, np.ndarray] = field(default_factory=dict)
    row: int = -1
    score: int = 0
    stamp: int = -1
    slot: int | None = None


class ReferenceTable:
    """`weights` and optimizer slots are kept in `compute`; float64 for comparing sums, float32 for comparing bits."""

    def __init__(self, spec: TableSpec, compute: type = np.float32) -> None:
        self.spec, self.compute = spec, compute
        self.slot_specs: tuple[SlotSpec, ...] = ()
        self.buckets = spec.buckets
        self.ways: dict[int, Entry] = {}  # slot number -> entry
        self.stash: list[Entry] = []
        self.entries: dict[Key, Entry] = {}
        self.free_rows: list[int] = []
        self.next_row = 0
        self.counted = Counters()

    # ---- doors -------------------------------------------------------------------------------------------------

    def add_slots(self, slots: Iterable[SlotSpec]) -> None:
        self.slot_specs += tuple(s for s in slots if s not in self.slot_specs)
        for entry in self.entries.values():
            entry.slots = self._initial_slots() | entry.slots

    def lookup(
        self, ids: np.ndarray, tables: np.ndarray, mode: LookupMode, clock: Clock, incoming: int | None = None
    ) -> tuple[np.ndarray, list[Entry]]:
        """Rows [U] of unique keys, -1 for unknown, and the evicted entries (in key order a chunk)."""
        before = self._remember()
        try:
            return self._lookup(ids, tables, mode, clock, len(ids) if incoming is None else incoming)
        except TableFull:
            self._go_back(before)
            raise

    def _remember(self) -> tuple[dict, list[tuple[Entry, int, int]]]:
        """All that a lookup may change: which entries there are, and their scores and stamps."""
        changing = ("ways", "stash", "entries", "free_rows", "next_row", "counted")
        return (
            {name: copy.copy(getattr(self, name)) for name in changing},
            [(entry, entry.score, entry.stamp) for entry in self.entries.values()],
        )

    def _go_back(self, before: tuple[dict, list[tuple[Entry, int, int]]]) -> None:
        self.__dict__ |= before[0]
        for entry, score, stamp in before[1]:
            entry.score, entry.stamp = score, stamp

    def erase(self, ids: np.ndarray, tables: np.ndarray) -> None:
        gone = [self.entries.pop(key) for key in self.keys(ids, tables) if key in self.entries]
        for entry in gone:
            if entry.slot is not None:
                del self.ways[entry.slot]
        self.stash = [entry for entry in self.stash if entry.key in self.entries]
        self.free_rows += sorted(entry.row for entry in gone)
        self.counted.erased += len(gone)

    def counters(self) -> Counters:
        now = copy.copy(self.counted)
        now.rows, now.buckets, now.stashed = len(self.entries), self.buckets, len(self.stash)
        return now

    def gather(self, ids: np.ndarray, tables: np.ndarray, unknown: str = "zeros") -> np.ndarray:
        """[U, D] in `compute`: what each key reads as."""
        out = np.zeros((len(ids), self.spec.dim), self.compute)
        for u, (key, initial) in enumerate(
            zip(self.keys(ids, tables), self._initial_weights(ids, tables), strict=True)
        ):
            if key in self.entries:
                out[u] = self.entries[key].weights
            elif unknown == "initial":
                out[u] = initial
        return out

    def keys(self, ids: np.ndarray, tables: np.ndarray) -> list[Key]:
        return [(self.spec.uids[int(t)], int(i)) for i, t in zip(ids, tables, strict=True)]

    # ---- lookup ------------------------------------------------------------------------------------------------

    def _lookup(
        self, ids: np.ndarray, tables: np.ndarray, mode: LookupMode, clock: Clock, incoming: int
    ) -> tuple[np.ndarray, list[Entry]]:
        if clock.pinned_from > clock.step:
            raise ValueError(f"pinned_from must be at most step = {clock.step}; got {clock.pinned_from}.")
        if mode.insert and self.spec.grows:
            self.grow(placement.grown_buckets(self.buckets, len(self.entries), incoming))
        keys = self.keys(ids, tables)
        missing = [u for u, key in enumerate(keys) if key not in self.entries]
        if mode.touch:
            self._touch([key for key in keys if key in self.entries], clock)
        evicted = self._insert(self._new_entries(ids[missing], tables[missing]), clock) if mode.insert else []
        if mode.touch and not mode.insert:
            self.counted.unknown += len(missing)
        return np.array([self.entries[k].row if k in self.entries else -1 for k in keys], np.int32), evicted

    def _touch(self, keys: list[Key], clock: Clock) -> None:
        for key in keys:
            entry = self.entries[key]
            entry.stamp = clock.step
            entry.score = clock.step if self.spec.score == "step" else entry.score + 1
        self.counted.found += len(keys)

    def _new_entries(self, ids: np.ndarray, tables: np.ndarray) -> list[Entry]:
        uids = np.asarray(self.spec.uids, np.uint32)[tables]
        _, a, b = placement.hash_words(ids, uids)
        weights = self._initial_weights(ids, tables)
        new = [
            Entry(key, int(a[u]), int(b[u]), weights[u], self._initial_slots())
            for u, key in enumerate(self.keys(ids, tables))
        ]
        return sorted(new, key=lambda entry: entry.key)

    def _insert(self, new: list[Entry], clock: Clock) -> list[Entry]:
        evicted: list[Entry] = []
        for beg in range(0, len(new), placement.CHUNK):
            evicted += self._insert_chunk(new[beg : beg + placement.CHUNK], clock)
        return evicted

    def _insert_chunk(self, chunk: list[Entry], clock: Clock) -> list[Entry]:
        room = self._rows_left()
        if not self.spec.evict and room < len(chunk):
            raise TableFull(f"{len(chunk)} new ids need rows; {room} of max_rows = {self.spec.max_rows} are left.")
        taking = chunk[:room] if self.spec.evict else chunk
        slots, pending = self._free_phase(taking)
        if self.spec.evict:
            won, pending = self._evict_phase(sorted(pending + chunk[len(taking) :], key=_by_key), clock.pinned_from)
            slots |= won
        if len(pending) > min(room - len(slots) + self._displacing(slots), placement.STASH - len(self.stash)):
            raise TableFull(f"{len(pending)} new ids found no way, row or stash entry.")
        return self._commit(chunk, slots, clock)

    def _rows_left(self) -> int:
        return 2**31 if self.spec.max_rows is None else self.spec.max_rows - len(self.entries)

    def _displacing(self, slots: dict[Key, int]) -> int:
        return sum(slot in self.ways for slot in slots.values())

    def _commit(self, chunk: list[Entry], slots: dict[Key, int], clock: Clock) -> list[Entry]:
        evicted = []
        for entry in chunk:
            entry.stamp, entry.score = clock.step, clock.step if self.spec.score == "step" else 1
            entry.slot = slots.get(entry.key)
            victim = self.ways.get(entry.slot) if entry.slot is not None else None
            if victim is not None:
                evicted.append(self.entries.pop(victim.key))
            entry.row = victim.row if victim is not None else self._pop_row()
            self._put(entry)
        self.counted.inserted += len(chunk)
        self.counted.evicted += len(evicted)
        return sorted(evicted, key=_by_key)

    def _put(self, entry: Entry) -> None:
        self.entries[entry.key] = entry
        if entry.slot is None:
            self.stash.append(entry)
        else:
            self.ways[entry.slot] = entry

    def _pop_row(self) -> int:
        if self.free_rows:
            return self.free_rows.pop()
        self.next_row += 1
        return self.next_row - 1

    # ---- placing -----------------------------------------------------------------------------------------------

    def _free_phase(self, pending: list[Entry]) -> tuple[dict[Key, int], list[Entry]]:
        lists = _Lists(lambda t: [slot for slot in range(t * W, t * W + W) if slot not in self.ways])
        return self._rounds(pending, lists, lambda a, b: a if lists.left(a) >= lists.left(b) else b)

    def _evict_phase(self, pending: list[Entry], pinned_from: int) -> tuple[dict[Key, int], list[Entry]]:
        def victims(t: int) -> list[int]:
            occupied = [s for s in range(t * W, t * W + W) if s in self.ways and self.ways[s].stamp < pinned_from]
            return sorted(occupied, key=lambda s: (self.ways[s].score, self.ways[s].key))

        def next_score(t: int) -> float:
            return self.ways[lists[t][lists.used.get(t, 0)]].score if lists.left(t) else float("inf")

        lists = _Lists(victims)
        return self._rounds(pending, lists, lambda a, b: a if next_score(a) <= next_score(b) else b)

    def _rounds(
        self, pending: list[Entry], lists: _Lists, choose: Callable[[int, int], int]
    ) -> tuple[dict[Key, int], list[Entry]]:
        slots: dict[Key, int] = {}
        for r in range(placement.ROUNDS):
            ranks: dict[int, int] = {}
            still = []
            for entry in pending:
                t = choose(entry.a & (self.buckets - 1), entry.b & (self.buckets - 1))
                rank = ranks.get(t, 0)
                ranks[t] = rank + 1
                left = lists.left(t)
                if rank < (left if r == placement.ROUNDS - 1 else -(-left // 2)):
                    slots[entry.key] = lists[t][lists.used.get(t, 0) + rank]
                else:
                    still.append(entry)
            lists.use(slots.values())
            pending = still
        return slots, pending

    # ---- growth ------------------------------------------------------------------------------------------------

    def grow(self, buckets: int) -> None:
        if buckets == self.buckets:
            return
        while self.buckets < buckets:
            self._double()
        waiting, self.stash = sorted(self.stash, key=_by_key), []
        slots, _ = self._free_phase(waiting)
        for entry in waiting:
            entry.slot = slots.get(entry.key)
            self._put(entry)

    def _double(self) -> None:
        old = self.buckets
        self.buckets *= 2
        for slot, entry in self.ways.items():
            bucket, way = divmod(slot, W)
            word = entry.a if entry.a & (old - 1) == bucket else entry.b
            entry.slot = (word & (self.buckets - 1)) * W + way
        self.ways = {entry.slot: entry for entry in self.ways.values() if entry.slot is not None}

    # ---- values ------------------------------------------------------------------------------------------------

    def _initial_weights(self, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        uids = np.asarray(self.spec.uids, np.uint32)[tables]
        values = initial_values(self.spec.distribution, self.spec.seed, uids, ids, self.spec.dim)
        return (nearest_bfloat16(values) if self.spec.dtype == "bfloat16" else values).astype(self.compute)

    def _initial_slots(self) -> dict[str, np.ndarray]:
        return {s.name: np.full(s.width, s.initial, self.compute) for s in self.slot_specs}


class _Lists:
    """Each bucket's usable slots, listed when first asked for (nothing is committed before a chunk's end)."""

    def __init__(self, list_of: Callable[[int], list[int]]) -> None:
        self.list_of, self.known, self.used = list_of, dict[int, list[int]](), dict[int, int]()

    def __getitem__(self, t: int) -> list[int]:
        if t not in self.known:
            self.known[t] = self.list_of(t)
        return self.known[t]

    def left(self, t: int) -> int:
        return len(self[t]) - self.used.get(t, 0)

    def use(self, slots: Iterable[int]) -> None:
        """Count all slots taken so far in the phase; called at a round's end."""
        self.used = {}
        for slot in slots:
            self.used[slot // W] = self.used.get(slot // W, 0) + 1


def _by_key(entry: Entry) -> Key:
    return entry.key
