"""Erase, marks, export and restore.

Sizes: n keys, S buckets, W ways.
"""

from __future__ import annotations

import numpy as np
import torch

from backends.numba_backend.find import find
from backends.numba_backend.hashing import bucket_words
from backends.numba_backend.key_order import key_order
from backends.numba_backend.lookup import lookup
from backends.numba_backend.state import TableState, as_stored, as_weights, empty_index, make_room
from backends.numba_backend.write import write_entries
from backends.records import Marks, Snapshot
from backends.spec import Clock, LookupMode


def erase(state: TableState, ids: np.ndarray, tables: np.ndarray) -> None:
    entry = find(state, ids, tables, None).entries
    entry = entry[entry >= 0]
    rows = np.sort(state.index.entries["row"][entry])
    state.index.tags[entry[entry < state.index.ways]] = 0
    _close_gaps(state, entry[entry >= state.index.ways] - state.index.ways)
    state.free = np.concatenate([state.free, rows])
    state.used -= len(entry)
    state.counters.erased += len(entry)


def _close_gaps(state: TableState, places: np.ndarray) -> None:
    """Later stash entries move down over erased ones."""
    index = state.index
    stash = index.entries[index.ways : index.ways + index.stashed]
    kept = np.delete(stash, places)
    stash[: len(kept)] = kept
    index.stashed = len(kept)


def marks(state: TableState) -> Marks:
    return _marked(state)[1]


def _marked(state: TableState) -> tuple[np.ndarray, Marks]:
    """Entries that hold a key, in key order, and their fields."""
    index = state.index
    entry = np.concatenate([np.flatnonzero(index.tags), index.ways + np.arange(index.stashed)])
    columns = _columns(index.entries[entry])
    order = key_order(columns[0], columns[1], state.ranks)
    return entry[order], Marks(*(torch.from_numpy(column[order]) for column in columns))


def export(state: TableState) -> Snapshot:
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


def _columns(entries: np.ndarray) -> list[np.ndarray]:
    return [np.ascontiguousarray(entries[name]) for name in ("id", "table", "row", "score", "stamp")]


def restore(state: TableState, snapshot: Snapshot) -> None:
    check_fits(state, snapshot)
    ids, tables = snapshot.ids.contiguous().numpy(), snapshot.tables.contiguous().numpy()
    if _keeps_placement(state, snapshot):
        rows = _place_as_saved(state, snapshot, ids, tables)
    else:
        rows, _ = lookup(state, ids, tables, mode=LookupMode(touch=False), clock=Clock(), incoming=len(ids))
    state.weights[rows] = as_stored(snapshot.weights)
    for name, array in state.slots.items():
        given = snapshot.slots.get(name)
        array[rows] = state.slot_specs[name].initial if given is None else given.detach().numpy()
    _write_history(state, snapshot, ids, tables)


def _write_history(state: TableState, snapshot: Snapshot, ids: np.ndarray, tables: np.ndarray) -> None:
    """Scores and stamps as the snapshot has them."""
    entry = find(state, ids, tables, None).entries
    for name, values in (("score", snapshot.scores), ("stamp", snapshot.stamps)):
        if values is not None:
            state.index.entries[name][entry] = values.numpy()


def check_fits(state: TableState, snapshot: Snapshot) -> None:
    wanted, shape = as_weights(state.weights[:0]).dtype, (len(snapshot.ids), state.spec.dim)
    if tuple(snapshot.weights.shape) != shape or snapshot.weights.dtype != wanted:
        raise ValueError(
            f"weights must be {wanted} {list(shape)}; got {snapshot.weights.dtype} {list(snapshot.weights.shape)}."
        )
    for name, values in snapshot.slots.items():
        spec = state.slot_specs.get(name)
        if spec is not None and tuple(values.shape) != (shape[0], spec.width):
            raise ValueError(f"slot {name!r} must be [{shape[0]}, {spec.width}]; got {list(values.shape)}.")


def _keeps_placement(state: TableState, snapshot: Snapshot) -> bool:
    if state.used or snapshot.slot_numbers is None:
        return False
    fits = state.spec.max_rows is None or snapshot.next_row <= state.spec.max_rows
    return fits and (state.spec.grows or snapshot.buckets == state.index.buckets)


def _place_as_saved(state: TableState, snapshot: Snapshot, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
    index = empty_index(snapshot.buckets)
    slot, rows = snapshot.slot_numbers.numpy(), snapshot.row_numbers.numpy()  # type: ignore[union-attr]
    entry = np.where(slot >= 0, slot, index.ways - 1 - slot)
    a, b = np.empty(len(ids), np.uint32), np.empty(len(ids), np.uint32)
    bucket_words(ids, tables, state.uids, 0, len(ids), a, b)
    write_entries(index.entries, index.tags, entry, ids, tables, rows, a, 0, 0)
    index.stashed = int((slot < 0).sum())
    state.index, state.used, state.next_row = index, len(ids), snapshot.next_row
    state.free = snapshot.free_rows.numpy().copy()  # type: ignore[union-attr]
    make_room(state, state.next_row)
    return rows
