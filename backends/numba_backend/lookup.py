"""Find or insert: rows of unique keys.

Sizes: U unique keys, M new ones of a chunk, D dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recis_core.backends import placement
from recis_core.backends.numba_backend.evict import Victims, drain, join
from recis_core.backends.numba_backend.find import Found, find, not_found
from recis_core.backends.numba_backend.grow import grow
from recis_core.backends.numba_backend.initial_values import write_initial
from recis_core.backends.numba_backend.key_order import key_order
from recis_core.backends.numba_backend.place import place
from recis_core.backends.numba_backend.state import TableState, count_tables, make_room, take_rows
from recis_core.backends.numba_backend.write import copy_entries, fill_rows, put_back, put_entries_back, write_entries
from recis_core.backends.records import Evicted
from recis_core.backends.rows_now import keep
from recis_core.backends.spec import Clock, LookupMode
from recis_core.backends.whole import Undo, no_room, whole


@dataclass(frozen=True)
class Keys:
    """New keys in key order, with their bucket words."""

    ids: np.ndarray  # int64 [M]
    tables: np.ndarray  # int32 [M]
    a: np.ndarray  # uint32 [M]
    b: np.ndarray  # uint32 [M]
    begin: np.ndarray | None  # bool [M], or None for all

    def part(self, beg: int, end: int) -> Keys:
        begin = None if self.begin is None else self.begin[beg:end]
        return Keys(self.ids[beg:end], self.tables[beg:end], self.a[beg:end], self.b[beg:end], begin)


@dataclass(frozen=True)
class Placed:
    """A chunk of new keys, after its insertion."""

    entries: np.ndarray  # int64 [M]
    rows: np.ndarray  # int32 [M]
    victims: Victims


def lookup(
    state: TableState,
    undo: Undo,
    ids: np.ndarray,
    tables: np.ndarray,
    *,
    mode: LookupMode,
    clock: Clock,
    incoming: int,
    begin: np.ndarray | None = None,
) -> tuple[np.ndarray, Evicted | None]:
    """Row numbers int32 [U] of unique keys, -1 for unknown; and the evicted keys.

    begin: bool [U], which of the new keys get initial values; the caller writes the others' rows. None: all.
    """
    if clock.pinned_from > clock.step:
        raise ValueError(f"pinned_from must be at most step = {clock.step}; got {clock.pinned_from}.")
    if mode.insert:
        grow(state, undo, incoming)
    found = find(state, ids, tables, clock if mode.touch else None, undo)
    missing = np.flatnonzero(found.rows < 0)
    evicted = _insert(state, undo, found, missing, ids, tables, clock, begin) if mode.insert else None
    if mode.touch:
        state.counters.found += len(ids) - len(missing)
        state.counters.unknown += 0 if mode.insert else len(missing)
    return found.rows, evicted


def find_or_insert(state: TableState, undo: Undo, ids: np.ndarray, tables: np.ndarray) -> tuple[Found, np.ndarray]:
    """(where unique keys are, int64 positions of those that are new, ascending). The caller writes the new ones' rows."""
    grow(state, undo, len(ids))
    found = find(state, ids, tables, None) if state.used else not_found(state, ids, tables)
    missing = np.flatnonzero(found.rows < 0)
    _insert(state, undo, found, missing, ids, tables, Clock(), np.zeros(len(ids), np.bool_))
    return found, missing


def insert(state: TableState, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Insert unique keys that are known to be absent; row numbers int32 [U]. The caller writes the rows."""
    with whole(state) as undo:
        grow(state, undo, len(ids))
        found, begin = not_found(state, ids, tables), np.zeros(len(ids), np.bool_)
        _insert(state, undo, found, np.arange(len(ids)), ids, tables, Clock(), begin)
    return found.rows


def begin_rows(state: TableState, rows: np.ndarray, ids: np.ndarray, tables: np.ndarray, begin: np.ndarray) -> None:
    """Make room for rows that the caller's own index numbers; where `begin`, write initial values.

    rows: int32 [U]. begin: bool [U].
    """
    with whole(state):
        end = int(rows.max(initial=-1)) + 1
        make_room(state, end)
        state.next_row = max(state.next_row, end)
        _begin(state, ids[begin], tables[begin], rows[begin])


def _insert(
    state: TableState,
    undo: Undo,
    found: Found,
    missing: np.ndarray,
    ids: np.ndarray,
    tables: np.ndarray,
    clock: Clock,
    begin: np.ndarray | None,
) -> Evicted | None:
    """Insert what was not found, and write its entries and rows into `found`."""
    if not len(missing):
        return join(state, []) if state.spec.evict else None
    missing = missing[key_order(ids[missing], tables[missing], state.ranks)]
    keys = Keys(
        ids[missing], tables[missing], found.a[missing], found.b[missing], None if begin is None else begin[missing]
    )
    placed = [
        _insert_chunk(state, undo, keys.part(beg, beg + placement.CHUNK), clock)
        for beg in range(0, len(missing), placement.CHUNK)
    ]
    found.entries[missing] = np.concatenate([p.entries for p in placed])
    found.rows[missing] = np.concatenate([p.rows for p in placed])
    state.counters.inserted += len(missing)
    state.counters.evicted += sum(len(p.victims.rows) for p in placed)
    return join(state, [p.victims for p in placed]) if state.spec.evict else None


def _insert_chunk(state: TableState, undo: Undo, keys: Keys, clock: Clock) -> Placed:
    index, M = state.index, len(keys.ids)
    entry = place(state, keys.a, keys.b, state.rows_left, clock.pinned_from)
    waits = np.flatnonzero(entry < 0)
    displaces = (
        np.flatnonzero((entry >= 0) & (index.tags[np.maximum(entry, 0)] != 0)) if state.spec.evict else waits[:0]
    )
    if M - len(displaces) > state.rows_left or index.stashed + len(waits) > placement.STASH:
        raise no_room(state.spec, M, state.used, index.stashed)
    entry[waits] = index.ways + index.stashed + np.arange(len(waits))
    victims = drain(state, entry[displaces])
    if state.copying:
        keep(state.copying, victims.rows)
    rows = _rows_for(state, displaces, victims, M)
    before = copy_entries(index.entries, index.tags, entry)
    undo.note(put_entries_back, index.entries, index.tags, entry, *before)
    undo.note(put_back, state.weights, victims.rows, victims.weights)
    for name, values in victims.slots.items():
        undo.note(put_back, state.slots[name], victims.rows, values)
    score = clock.step if state.spec.score == "step" else 1
    write_entries(index.entries, index.tags, entry, keys.ids, keys.tables, rows, keys.a, score, clock.step)
    index.stashed += len(waits)
    state.used += M - len(displaces)
    count_tables(state, keys.tables, 1)
    if len(displaces):
        count_tables(state, victims.tables, -1)
    begin = slice(None) if keys.begin is None else keys.begin
    _begin(state, keys.ids[begin], keys.tables[begin], rows[begin])
    return Placed(entry, rows, victims)


def _rows_for(state: TableState, displaces: np.ndarray, victims: Victims, M: int) -> np.ndarray:
    """A key that displaces another takes its row; the others take free rows, in key order."""
    own = np.ones(M, bool)
    own[displaces] = False
    rows = np.empty(M, np.int32)
    rows[own] = take_rows(state, M - len(displaces))
    rows[displaces] = victims.rows
    make_room(state, state.next_row)
    return rows


def _begin(state: TableState, ids: np.ndarray, tables: np.ndarray, rows: np.ndarray) -> None:
    """Initial weights and slots of new keys."""
    if not len(rows):
        return
    write_initial(state, rows, ids, tables)
    for name, array in state.slots.items():
        fill_rows(array, rows, np.float32(state.slot_specs[name].initial))
