"""Erase, marks, export and restore.

Sizes: n keys, S buckets, W ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from recis_core.backends.memory import copied, zeroed
from recis_core.backends.numba_backend.compiled import compiled
from recis_core.backends.numba_backend.find import find
from recis_core.backends.numba_backend.hashing import bucket_words
from recis_core.backends.numba_backend.key_order import key_order
from recis_core.backends.numba_backend.lookup import find_or_insert
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
from recis_core.backends.rows_now import RowsNow
from recis_core.backends.snapshot_checks import check_snapshot, keeps_placement
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
    entry, *columns = _listed(index.entries, index.tags, index.stashed, state.used)
    order = key_order(columns[0], columns[1], state.ranks)
    return entry[order], Marks(*(torch.from_numpy(column[order]) for column in columns))


@compiled
def _listed(entries, tags, stashed, count):  # type: ignore[no-untyped-def]
    """(entries that hold a key int64, their ids, tables, rows, scores, stamps), each [count]."""
    at, ids = np.empty(count, np.int64), np.empty(count, np.int64)
    tables, rows = np.empty(count, np.int32), np.empty(count, np.int32)
    scores, stamps = np.empty(count, np.int32), np.empty(count, np.int32)
    n = 0
    for e in range(len(tags) + stashed):
        if e >= len(tags) or tags[e] != 0:
            at[n], ids[n], tables[n], rows[n] = e, entries[e].id, entries[e].table, entries[e].row
            scores[n], stamps[n] = entries[e].score, entries[e].stamp
            n += 1
    return at, ids, tables, rows, scores, stamps


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


def export_parts(state: TableState, most: int) -> Iterator[Snapshot]:
    settle(state)
    kept = _marked(state)[1]
    for begin in range(0, max(1, len(kept.rows)), most):
        at = slice(begin, begin + most)
        rows = kept.rows.numpy()[at]
        slots = {name: torch.from_numpy(array[rows]) for name, array in state.slots.items()}
        weights, scores, stamps = as_weights(state.weights[rows]), kept.scores[at], kept.stamps[at]
        yield Snapshot(kept.ids[at], kept.tables[at], weights, slots, scores=scores, stamps=stamps)


def export_later(state: TableState) -> Callable[[], Snapshot]:
    settle(state)
    index, arrays = state.index, {name: array[: state.next_row] for name, array in _row_arrays(state).items()}
    into = {name: zeroed(array.shape, array.dtype) for name, array in arrays.items()}
    kept = replace(index, entries=copied(index.entries[: index.ways + index.stashed]), tags=copied(index.tags))
    slots = {name: into[f"slot {name}"] for name in state.slots}
    then = replace(state, index=kept, weights=into["weights"], slots=slots, free=copied(state.free), copying=[])
    now = RowsNow(arrays, into)
    state.copying.append(now)
    return partial(_export_when_copied, now, then)


def _row_arrays(state: TableState) -> dict[str, np.ndarray]:
    return {"weights": state.weights} | {f"slot {name}": array for name, array in state.slots.items()}


def _export_when_copied(now: RowsNow, then: TableState) -> Snapshot:
    now.finish()
    return export(then)


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
    found, missing = find_or_insert(state, undo, ids, tables)
    known = np.delete(np.arange(len(ids)), missing)  # what is new goes as it came: its values need no note
    entries, entry = state.index.entries, found.entries
    for name, values in (("score", snapshot.scores), ("stamp", snapshot.stamps)):
        if values is not None:
            undo.note(put_back, entries[name], entry[known], entries[name][entry[known]])
            entries[name][entry] = values.numpy()
    for array in (state.weights, *state.slots.values()):
        undo.note(put_back, array, found.rows[known], array[found.rows[known]])
    _write_values(state, snapshot, found.rows)


def _restore_placement(state: TableState, snapshot: Snapshot, ids: np.ndarray, tables: np.ndarray) -> None:
    """The empty table's fields are all replaced at the end, at once."""
    index = _index_as_saved(state, snapshot, ids, tables)
    free = snapshot.free_rows.numpy().copy()  # type: ignore[union-attr]
    make_room(state, snapshot.next_row)
    _write_values(state, snapshot, snapshot.row_numbers.numpy())  # type: ignore[union-attr]
    state.index, state.used, state.next_row, state.free = index, len(ids), snapshot.next_row, free
    state.by_table = np.bincount(tables, minlength=len(state.uids))


def _write_values(state: TableState, snapshot: Snapshot, rows: np.ndarray) -> None:
    at = _run_of(rows)
    state.weights[at] = as_stored(snapshot.weights)
    for name, array in state.slots.items():
        given = snapshot.slots.get(name)
        array[at] = np.float32(state.slot_specs[name].initial) if given is None else given.detach().numpy()


def _run_of(rows: np.ndarray) -> slice | np.ndarray:
    """New keys in key order get rows in a run, into which values are copied in one piece."""
    if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows), dtype=rows.dtype)):
        return slice(int(rows[0]), int(rows[0]) + len(rows))
    return rows


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
