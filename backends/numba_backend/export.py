"""Erase, marks, export and restore.

Sizes: n keys, S buckets, W ways.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from recis_core.backends.numba_backend.find import find
from recis_core.backends.numba_backend.hashing import bucket_words
from recis_core.backends.numba_backend.key_order import key_order
from recis_core.backends.numba_backend.lookup import lookup
from recis_core.backends.numba_backend.memory import copied
from recis_core.backends.numba_backend.state import (
    Index,
    TableState,
    as_stored,
    as_weights,
    count_tables,
    empty_index,
    make_room,
)
from recis_core.backends.numba_backend.write import put_back, write_entries
from recis_core.backends.records import Marks, Snapshot
from recis_core.backends.snapshot_checks import check_snapshot, keeps_placement
from recis_core.backends.spec import Clock, LookupMode
from recis_core.backends.whole import Undo, settle, whole


def erase(state: TableState, ids: np.ndarray, tables: np.ndarray) -> None:
    with whole(state) as undo:
        entry = find(state, ids, tables, None).entries
        entry = entry[entry >= 0]
        rows, gone = np.sort(state.index.entries["row"][entry]), state.index.entries["table"][entry]
        free = np.concatenate([state.free, rows])
        inside, tags = entry[entry < state.index.ways], state.index.tags
        undo.note(put_back, tags, inside, tags[inside])
        tags[inside] = 0
        _close_gaps(state.index, undo, entry[entry >= state.index.ways] - state.index.ways)
        state.free = free
        state.used -= len(entry)
        count_tables(state, gone, -1)
        state.counters.erased += len(entry)


def _close_gaps(index: Index, undo: Undo, places: np.ndarray) -> None:
    """Later stash entries move down over erased ones."""
    stash = index.entries[index.ways : index.ways + index.stashed]
    kept = np.delete(stash, places)
    undo.note(put_back, stash, np.arange(len(stash)), stash.copy())
    stash[: len(kept)] = kept
    index.stashed = len(kept)


def marks(state: TableState) -> Marks:
    settle(state)
    return _marked(state)[1]


def _marked(state: TableState) -> tuple[np.ndarray, Marks]:
    """Entries that hold a key, in key order, and their fields."""
    index = state.index
    entry = np.concatenate([np.flatnonzero(index.tags), index.ways + np.arange(index.stashed)])
    columns = _columns(index.entries[entry])
    order = key_order(columns[0], columns[1], state.ranks)
    return entry[order], Marks(*(torch.from_numpy(column[order]) for column in columns))


def keys_from(state: TableState, start: int, most: int) -> tuple[Tensor, Tensor, Tensor, int]:
    settle(state)
    index, end = state.index, start + most
    ways = start + np.flatnonzero(index.tags[start:end])
    stash = np.arange(max(start, index.ways), min(end, index.ways + index.stashed))
    columns = _columns(index.entries[np.concatenate([ways, stash])])
    ids, tables, rows = (torch.from_numpy(column) for column in columns[:3])
    return ids, tables, rows, end if end < index.ways + index.stashed else -1


def export(state: TableState) -> Snapshot:
    settle(state)
    index, (entry, kept) = state.index, _marked(state)
    rows = kept.rows.numpy()
    return Snapshot(
        ids=kept.ids,
        tables=kept.tables,
        weights=as_weights(state.weights[rows]),
        slots={name: torch.from_numpy(array[rows]) for name, array in state.slots.items()},
        slot_numbers=torch.from_numpy(np.where(entry < index.ways, entry, index.ways - 1 - entry)),
        row_numbers=kept.rows,
        scores=kept.scores,
        stamps=kept.stamps,
        free_rows=torch.from_numpy(state.free.copy()),
        next_row=state.next_row,
        buckets=index.buckets,
    )


def export_later(state: TableState) -> Callable[[], Snapshot]:
    settle(state)
    return partial(export, _copied_state(state))


def _copied_state(state: TableState) -> TableState:
    """What `export` reads, in memory of its own; no other stage may take it."""
    index, rows = state.index, state.next_row
    entries = copied(index.entries[: index.ways + index.stashed])
    return replace(
        state,
        index=replace(index, entries=entries, tags=copied(index.tags)),
        weights=copied(state.weights[:rows]),
        slots={name: copied(array[:rows]) for name, array in state.slots.items()},
        free=copied(state.free),
    )


def _columns(entries: np.ndarray) -> list[np.ndarray]:
    return [np.ascontiguousarray(entries[name]) for name in ("id", "table", "row", "score", "stamp")]


def restore(state: TableState, snapshot: Snapshot) -> TableState:
    check_snapshot(state.spec, state.slot_specs, snapshot)
    ids, tables = snapshot.ids.contiguous().numpy(), snapshot.tables.contiguous().numpy()
    with whole(state) as undo:
        if keeps_placement(state.spec, state.used, state.index.buckets, snapshot):
            _restore_placement(state, snapshot, ids, tables)
        else:
            _find_or_insert(state, undo, snapshot, ids, tables)
    return state


def _find_or_insert(state: TableState, undo: Undo, snapshot: Snapshot, ids: np.ndarray, tables: np.ndarray) -> None:
    """Scores and stamps are the snapshot's, whatever the layout."""
    mode = LookupMode(touch=False)
    rows, _ = lookup(state, undo, ids, tables, mode=mode, clock=Clock(), incoming=len(ids))
    entries, entry = state.index.entries, find(state, ids, tables, None).entries
    for name, values in (("score", snapshot.scores), ("stamp", snapshot.stamps)):
        if values is not None:
            undo.note(put_back, entries[name], entry, entries[name][entry])
            entries[name][entry] = values.numpy()
    _write_values(state, undo, snapshot, rows)


def _restore_placement(state: TableState, snapshot: Snapshot, ids: np.ndarray, tables: np.ndarray) -> None:
    """The empty table's fields are all replaced at the end, at once."""
    index = _index_as_saved(state, snapshot, ids, tables)
    free = snapshot.free_rows.numpy().copy()  # type: ignore[union-attr]
    make_room(state, snapshot.next_row)
    _write_values(state, None, snapshot, snapshot.row_numbers.numpy())  # type: ignore[union-attr]
    state.index, state.used, state.next_row, state.free = index, len(ids), snapshot.next_row, free
    state.by_table = np.bincount(tables, minlength=len(state.uids))


def _write_values(state: TableState, undo: Undo | None, snapshot: Snapshot, rows: np.ndarray) -> None:
    overwrite(undo, state.weights, rows, as_stored(snapshot.weights))
    for name, array in state.slots.items():
        given = snapshot.slots.get(name)
        initial = np.float32(state.slot_specs[name].initial)
        overwrite(undo, array, rows, initial if given is None else given.detach().numpy())


def overwrite(undo: Undo | None, array: np.ndarray, rows: np.ndarray, values: np.ndarray | np.float32) -> None:
    if undo is not None:
        undo.note(put_back, array, rows, array[rows])
    array[rows] = values


def _index_as_saved(state: TableState, snapshot: Snapshot, ids: np.ndarray, tables: np.ndarray) -> Index:
    index = empty_index(snapshot.buckets)
    slot, rows = snapshot.slot_numbers.numpy(), snapshot.row_numbers.numpy()  # type: ignore[union-attr]
    entry = np.where(slot >= 0, slot, index.ways - 1 - slot)
    a, b = np.empty(len(ids), np.uint32), np.empty(len(ids), np.uint32)
    bucket_words(ids, tables, state.uids, 0, len(ids), a, b)
    write_entries(index.entries, index.tags, entry, ids, tables, rows, a, 0, 0)
    index.entries["score"][entry] = snapshot.scores.numpy()  # type: ignore[union-attr]
    index.entries["stamp"][entry] = snapshot.stamps.numpy()  # type: ignore[union-attr]
    index.stashed = int((slot < 0).sum())
    return index
