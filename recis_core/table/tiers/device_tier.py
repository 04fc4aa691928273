"""Rows that are trained: a backend's table of K rows at most, and in host memory an index of its keys with their marks.

Decisions read the index alone, so that none waits for the device. Index and table insert and erase the same keys in the same
order, and so number rows alike (docs/placement.md). Of a numba table only the rows are used: they are in host memory, and
the tier's own index leads to them, at half the cost of moving keys in and out.

Sizes: n keys of a call, at most one of each; K rows at most.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from recis_core.backends import Backend, Clock, LookupCall, LookupMode, SlotSpec, TableSpec
from recis_core.backends.errors import RecisError
from recis_core.backends.interface import State
from recis_core.backends.numba_backend.backend import NumbaBackend
from recis_core.backends.numba_backend.embed import embed_rows
from recis_core.backends.numba_backend.lookup import begin_rows
from recis_core.backends.numba_backend.partition import Unique
from recis_core.backends.numba_backend.state import as_stored
from recis_core.backends.tier_loops.columns import count_up, fill, put, touch_rows, use_rows
from recis_core.options.cache_policy import Lookahead, Policy, Ttl
from recis_core.table.tiers.key_index import FreeIndex, KeyIndex, PlacedIndex
from recis_core.table.tiers.row_format import Rows, marks_of
from recis_core.table.tiers.victims import ALL, Victims, lowest

FIND_OR_INSERT = LookupMode(insert=True, touch=False)
FIND = LookupMode(insert=False, touch=False)
LEAST_ROWS = 64  # of a table that lives as long as a call; it has a power of two, for programs are compiled by size
COLUMNS = {
    "score": (np.float64, -np.inf),
    "used": (np.int32, 0),  # the last step that used the row
    "pinned": (np.int64, -1),  # the last step whose gradient may still come
    "held": (np.int32, 0),  # planned calls that the row stays for
    "next_use": (np.int64, -1),  # the next planned call that uses it
    "dirty": (np.bool_, False),  # changed since it came
    "stored": (np.bool_, False),  # whether a tier below has the row
    "version": (np.uint32, 0),
    "uses_written": (np.int32, 0),  # of its uses, those that the tier below has: as Marks.scores, by TableSpec.score
}
USES = {"uses": (np.int32, 0)}  # calls that used the row, where a filter reads them


@dataclasses.dataclass
class Leaving:
    """What a tier below must get of rows that leave."""

    uses: tuple[np.ndarray, ...]  # ids, tables, used, uses, scores of rows that it has as they are, but for uses since
    keys: tuple[np.ndarray, np.ndarray]  # ids, tables of rows that it has not, or has otherwise
    rows: Rows
    early: np.ndarray  # int32, tables of rows whose first call has not come


class DeviceTier:
    """Rows of one table on its device. `state` is the backend's.

    capacity: K.
    """

    def __init__(
        self, backend: Backend, spec: TableSpec, slots: tuple[SlotSpec, ...], capacity: int, policy: Policy
    ) -> None:
        self.backend, self.slots, self.policy, self.capacity = backend, slots, policy, capacity
        self.table_spec = spec
        self.spec = dataclasses.replace(spec, rows=min(spec.rows, capacity), max_rows=capacity, evict=False)
        self.state = backend.add_slots(backend.create(self.spec), slots)
        self._in_host = isinstance(backend, NumbaBackend)
        self.marks, self.counts = marks_of(spec), spec.score == "count"
        self._carried = [name for name in self.marks.names or () if name != "score"]
        self.columns = COLUMNS | (USES if self.counts else {})
        # A numba table's own index stays empty; that of any other table is followed by this one.
        self._free = FreeIndex(self.columns, capacity) if self._in_host else None
        self.index: KeyIndex = PlacedIndex(spec.uids, self.columns, capacity) if self._free is None else self._free
        self.find = self.index.find  # (ids, tables) -> row numbers int32 [n], -1 for none
        self._coming: tuple[np.ndarray, np.ndarray] | None = None  # keys that table and mirror may not both have
        self.device, self.dtype = torch.device(spec.device), getattr(torch, spec.dtype)
        self._victims = Victims()

    def __len__(self) -> int:
        return len(self.index)

    @property
    def room(self) -> int:
        return self.capacity - len(self.index)

    def is_known(self, rows: np.ndarray) -> np.ndarray:
        """bool [n]: which rows are the table's: not those prefetched for new ids whose first call has not come."""
        at = self.index.at
        return (at["pinned"][rows] >= 0) | at["dirty"][rows] | at["stored"][rows]

    def known_rows(self) -> np.ndarray:
        rows = self.index.all_rows()
        return rows[self.is_known(rows)]

    def find_known(self, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        rows = self.index.find(ids, tables)
        return np.where((rows >= 0) & self.is_known(rows), rows, np.int32(-1))

    @property
    def scores(self) -> np.ndarray:
        """int32, by row number: the table's scores, as TableSpec.score has them."""
        return self.index.at["uses" if self.counts else "used"]

    def unsaved(self, rows: np.ndarray) -> np.ndarray:
        """Those of these rows that no tier below has as they are."""
        at = self.index.at
        return rows[at["dirty"][rows] | (self.is_known(rows) & ~at["stored"][rows])]

    def with_unwritten_uses(self, rows: np.ndarray) -> np.ndarray:
        """Those of these rows that a tier below has as they are, but for uses since."""
        at = self.index.at
        return rows[at["stored"][rows] & ~at["dirty"][rows] & (self.scores[rows] != at["uses_written"][rows])]

    def resized(self, capacity: int, tick: int) -> DeviceTier:
        """Another tier with the same rows, and room for so many or for all of these."""
        rows = self.index.all_rows()
        new = DeviceTier(self.backend, self.table_spec, self.slots, max(capacity, len(rows)), self.policy)
        mine = new.put_in(*self.index.keys(rows), np.ones(len(rows), bool), self.read(rows), tick)
        for name in new.columns:
            new.index.at[name][mine] = self.index.at[name][rows]
        return new

    def leaving(self, rows: np.ndarray) -> Leaving:
        """What a tier below must get of rows before they go."""
        at, scores, unwritten, unsaved = self.index.at, self.scores, self.with_unwritten_uses(rows), self.unsaved(rows)
        uses = at["used"][unwritten], scores[unwritten] - at["uses_written"][unwritten], at["score"][unwritten]
        early = at["tables"][rows[~self.is_known(rows)]]
        leaving = Leaving((*self.index.keys(unwritten), *uses), self.index.keys(unsaved), self.read(unsaved), early)
        fill(at["dirty"], unwritten, True)  # if leaving breaks off, rows are written whole, and no use counts twice
        return leaving

    def saved(self, rows: np.ndarray) -> None:
        """A tier below has these rows as they are now."""
        at = self.index.at
        at["dirty"][rows], at["stored"][rows], at["uses_written"][rows] = False, True, self.scores[rows]

    def keys_there(self, ids: np.ndarray, tables: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(tables).to(self.device)

    def put_in(self, ids: np.ndarray, tables: np.ndarray, found: np.ndarray, rows: Rows, tick: int) -> np.ndarray:
        """Give rows to keys that have none: row numbers int32 [n]. Keys `found` get these `rows`, the others initial values.

        Keys are found once their rows are whole; after an exception, call `settle`.
        """
        weights = rows.weights.to(self.device)
        slots = {name: values.to(self.device) for name, values in rows.slots.items()}
        if self._free is not None:
            mine = self._free.reserve(ids, tables)
            begin_rows(self.state, mine, ids, tables, ~found)
            self._write(mine, found, weights, slots, rows.marks, tick)
            self._free.commit(mine, ids, tables)
            return mine
        self._coming = ids, tables
        mine = self._add(ids, tables)
        self._write(mine, found, weights, slots, rows.marks, tick)
        self._coming = None
        return mine

    def settle(self) -> None:
        """Drop keys that an exception left without their rows' values. May be called again."""
        if self._coming is None:
            return
        ids, tables = self._coming
        keys = self.keys_there(ids, tables)
        self.state, numbers, _ = self.backend.lookup(self.state, *keys, mode=FIND, clock=Clock())
        there, here = bool((numbers >= 0).any()), bool((self.index.find(ids, tables) >= 0).any())
        if there or here:  # both add and drop them whole, and so number rows alike afterwards
            whole = here and self.index.whole
            self.drop(self.index.find(ids, tables) if whole else self.index.add(ids, tables))
        self._coming = None

    def begin_with(self, ids: np.ndarray, tables: np.ndarray, rows: Rows, tick: int) -> np.ndarray:
        """As `put_in`, for rows that no tier below has."""
        mine = self.put_in(ids, tables, np.ones(len(ids), bool), rows, tick)
        self.index.at["dirty"][mine], self.index.at["stored"][mine] = True, False
        return mine

    def _add(self, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        keys = self.keys_there(ids, tables)
        self.state, numbers, _ = self.backend.lookup(self.state, *keys, mode=FIND_OR_INSERT, clock=Clock())
        mine = self.index.add(ids, tables)
        if self.device.type == "cpu" and not np.array_equal(numbers.numpy(), mine):
            raise RecisError("a device table and its mirror number rows differently; please report this.")
        return mine

    def _write(
        self,
        rows: np.ndarray,
        found: np.ndarray,
        weights: torch.Tensor,
        slots: dict[str, torch.Tensor],
        marks: np.ndarray,
        tick: int,
    ) -> None:
        if found.any():
            at = torch.from_numpy(rows[found]).to(self.device)
            self.state = self.backend.write_rows(self.state, at, weights, slots)
        self._enter(rows, found, marks, tick)

    def _enter(self, rows: np.ndarray, found: np.ndarray, marks: np.ndarray, tick: int) -> None:
        column, known = self.index.at, rows[found]
        carried = np.full(len(rows), np.nan)
        carried[found] = marks["score"]
        put(column["stored"], rows, found)
        for name in self._carried:
            put(column[name], known, marks[name])
        put(column["uses_written"], known, self.scores[known])
        self.policy.enter(column["score"], rows, carried, tick)

    def read(self, rows: np.ndarray) -> Rows:
        """Values and marks of rows, on the CPU."""
        at = torch.from_numpy(rows.astype(np.int32)).to(self.device)
        weights, slots = self.backend.read_rows(self.state, at)
        marks = np.zeros(len(rows), self.marks)
        for name in ("score", *self._carried):
            marks[name] = self.index.at[name][rows]
        return Rows(weights.cpu(), {name: values.cpu() for name, values in slots.items()}, marks)

    def overwrite(self, rows: np.ndarray, values: Rows) -> None:
        at = torch.from_numpy(rows).to(self.device)
        slots = {name: value.to(self.device) for name, value in values.slots.items()}
        self.changed(rows)
        self.state = self.backend.write_rows(self.state, at, values.weights.to(self.device), slots)

    def embed(
        self,
        call: LookupCall,
        keys: Unique,
        rows: np.ndarray,
        *,
        mode: LookupMode,
        clock: Clock,
        weights_need_grad: tuple[bool, ...],
    ) -> tuple[list[torch.Tensor], Any]:
        """A call's outputs, and what its backward needs. rows: int32 [U] of its keys, -1 for those that are nowhere."""
        if self._in_host:
            return embed_rows(self.state, call, keys, rows, mode, weights_need_grad)
        self.state, outputs, saved, _ = self.backend.embed(
            self.state, call, mode=mode, clock=clock, weights_need_grad=weights_need_grad
        )
        return outputs, saved

    def values(self, rows: np.ndarray, ids: np.ndarray, tables: np.ndarray, unknown: str) -> torch.Tensor:
        """float32 [n, D]; row -1 reads as zeros, or as its key's initial value."""
        at, keys = torch.from_numpy(rows).to(self.device), self.keys_there(ids, tables)
        return self.backend.gather(self.state, at, *keys, unknown=unknown)

    def initial(self, ids: np.ndarray, tables: np.ndarray) -> torch.Tensor:
        """float32 [n, D] of new keys."""
        return self.values(np.full(len(ids), -1, np.int32), ids, tables, "initial")

    def embed_values(
        self,
        call: LookupCall,
        keys: Unique,
        values: torch.Tensor,
        known: np.ndarray,
        *,
        mode: LookupMode,
        clock: Clock,
        weights_need_grad: tuple[bool, ...],
    ) -> tuple[list[torch.Tensor], Any]:
        """As `embed`, whose rows may lie elsewhere. values: float32 [U, D] by key; known: bool [U], which have a row."""
        if self._in_host:
            rows = np.where(known, np.arange(len(known), dtype=np.int32), np.int32(-1))
            return embed_rows(self.state, call, keys, rows, mode, weights_need_grad, values.numpy())
        ids, tables = keys.ids[known], keys.tables[known]
        weights = values[torch.from_numpy(known).to(values.device)].to(self.dtype)
        table, _ = self.table_of(ids, tables, weights, None)
        _, outputs, saved, _ = self.backend.embed(
            table, call, mode=mode, clock=clock, weights_need_grad=weights_need_grad
        )
        return outputs, saved

    def table_of(
        self, ids: np.ndarray, tables: np.ndarray, weights: torch.Tensor, slots: dict[str, torch.Tensor] | None
    ) -> tuple[State, torch.Tensor]:
        """A table of the backend's that lives as long as a call and holds these rows; row numbers int32 [n] there.

        slots: None for a table without.
        """
        if self._in_host:
            numbers = torch.arange(len(ids), dtype=torch.int32)
            arrays = {name: values.numpy().copy() for name, values in (slots or {}).items()}
            return dataclasses.replace(
                self.state, weights=as_stored(weights.clone()), slots=arrays, unfinished=None
            ), numbers
        rows = max(LEAST_ROWS, 1 << (len(ids) - 1).bit_length())
        table = self.backend.create(dataclasses.replace(self.spec, rows=rows, max_rows=None))
        if slots is not None:
            table = self.backend.add_slots(table, self.slots)
        keys = self.keys_there(ids, tables)
        table, numbers, _ = self.backend.lookup(table, *keys, mode=FIND_OR_INSERT, clock=Clock())
        there = {name: values.to(self.device) for name, values in (slots or {}).items()}
        return self.backend.write_rows(table, numbers, weights.to(self.device), there), numbers

    def drop(self, rows: np.ndarray) -> None:
        """Forget the keys of distinct rows. May be called again if it was broken off."""
        if self._free is None:
            self.state = self.backend.erase(self.state, *self.keys_there(*self.index.keys(rows)))
        self.index.drop(rows)

    def touch(self, rows: np.ndarray, step: int) -> int:
        """Count a use of rows for filters, without pinning them; how many rows."""
        return int(touch_rows(self.index.at["used"], self._uses, rows, step, self.counts))

    def use(self, rows: np.ndarray, step: int, *, touch: bool) -> int:
        """Pin rows for a call, and with `touch` count a use for filters; how many were the table's before."""
        at = self.index.at
        columns = at["pinned"], at["dirty"], at["stored"], at["used"], self._uses
        return int(use_rows(*columns, rows, step, touch, self.counts))

    @property
    def _uses(self) -> np.ndarray:
        return self.index.at["uses" if self.counts else "used"]

    def changed(self, rows: np.ndarray) -> None:
        fill(self.index.at["dirty"], rows, True)
        count_up(self.index.at["version"], rows)

    def victims(self, count: int, pinned_from: int, consumed: int, kept: np.ndarray) -> np.ndarray:
        """At most `count` rows, int64, that may leave: not pinned, not held, not among `kept`; those of lowest scores.

        consumed: the last planned call that came; a row's next use is known if it is a later one.
        """
        at = self.index.at
        keep = np.zeros(len(at["here"]), bool)
        keep[kept] = True

        def free(rows: np.ndarray | slice) -> np.ndarray:
            found = at["here"][rows] & (at["pinned"][rows] < pinned_from) & (at["held"][rows] == 0) & ~keep[rows]
            return np.asarray(found)

        if not isinstance(self.policy, Lookahead):
            return self._victims.pick(count, at["score"], free)
        unasked = self._victims.pick(count, at["score"], lambda rows: free(rows) & (at["next_use"][rows] <= consumed))
        if len(unasked) == count:
            return unasked
        asked = free(ALL) & (at["next_use"] > consumed)
        return np.concatenate([unasked, lowest(count - len(unasked), -at["next_use"], asked)])

    def expired(self, pinned_from: int, policy: Ttl) -> np.ndarray:
        """Rows that the policy sends away though nothing needs their place."""
        rows, at = self.index.all_rows(), self.index.at
        rows = rows[(at["pinned"][rows] < pinned_from) & (at["held"][rows] == 0)]
        return rows[policy.expired(at["score"][rows])]
