"""Erase, marks, export and restore.

Sizes: n keys, W ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from recis_core.backends.records import Marks, Snapshot
from recis_core.backends.rows_now import RowsNow
from recis_core.backends.snapshot_checks import check_snapshot, keeps_placement
from recis_core.backends.spec import Clock, LookupMode
from recis_core.backends.torch_backend.lookup import find, lookup
from recis_core.backends.torch_backend.place import key_order
from recis_core.backends.torch_backend.state import (
    EMPTY,
    FIELDS,
    Index,
    TableState,
    changing,
    count_tables,
    empty_index,
    make_room,
    ordinals,
    overwrite,
)
from recis_core.backends.whole import Undo, settle


def erase(state: TableState, ids: Tensor, tables: Tensor) -> TableState:
    with changing(state) as undo:
        entry = find(state.index, ids, state.uids(tables))
        entry = entry[entry >= 0]
        rows, gone = state.index.rows[entry].sort().values, state.index.uids[entry]
        state.index.write(undo, entry, **EMPTY)
        _close_gaps(state.index, undo)
        state.free = torch.cat([state.free, rows])
        state.used -= len(entry)
        count_tables(state, gone, -1)
        state.counters.erased += len(entry)
    return state


def _close_gaps(index: Index, undo: Undo) -> None:
    """Later stash entries move down over erased ones."""
    at = torch.arange(index.ways, index.ways + index.stashed, device=index.rows.device)
    kept = index.read(at[index.rows[at] >= 0])
    index.write(undo, at, **EMPTY)
    index.stashed = len(kept["rows"])
    index.write(undo, at[: index.stashed], **kept)


def marks(state: TableState) -> Marks:
    settle(state)
    return _marks(state, _occupied(state.index))


def _occupied(index: Index) -> Tensor:
    """Entries that hold a key, in key order."""
    entry = torch.nonzero(index.rows >= 0).squeeze(1)
    return entry[key_order(index.ids[entry], index.uids[entry])]


def _marks(state: TableState, entry: Tensor) -> Marks:
    e = state.index.read(entry)
    tables = ordinals(state, e["uids"])
    return Marks(*(x.cpu() for x in (e["ids"], tables, e["rows"], e["scores"], e["stamps"])))


def keys_from(state: TableState, start: int, most: int) -> tuple[Tensor, Tensor, Tensor, int]:
    settle(state)
    index, end = state.index, start + most
    e = index.read(start + torch.nonzero(index.rows[start:end] >= 0).squeeze(1))
    ids, tables, rows = (x.cpu() for x in (e["ids"], ordinals(state, e["uids"]), e["rows"]))
    return ids, tables, rows, end if end < index.ways + index.stashed else -1


def export(state: TableState) -> Snapshot:
    settle(state)
    index, entry = state.index, _occupied(state.index)
    kept, rows = _marks(state, entry), index.rows[entry].long()
    return Snapshot(
        ids=kept.ids,
        tables=kept.tables,
        weights=state.weights[rows].cpu(),
        slots={name: array[rows].cpu() for name, array in state.slots.items()},
        slot_numbers=torch.where(entry < index.ways, entry, index.ways - 1 - entry).cpu(),
        row_numbers=kept.rows,
        scores=kept.scores,
        stamps=kept.stamps,
        free_rows=state.free.cpu(),
        next_row=state.next_row,
        buckets=index.buckets,
    )


def export_parts(state: TableState, most: int) -> Iterator[Snapshot]:
    settle(state)
    entry = _occupied(state.index)
    kept, rows = _marks(state, entry), state.index.rows[entry].long()
    for begin in range(0, max(1, len(rows)), most):
        at = slice(begin, begin + most)
        slots = {name: array[rows[at]].cpu() for name, array in state.slots.items()}
        weights, scores, stamps = state.weights[rows[at]].cpu(), kept.scores[at], kept.stamps[at]
        yield Snapshot(kept.ids[at], kept.tables[at], weights, slots, scores=scores, stamps=stamps)


def export_later(state: TableState) -> Callable[[], Snapshot]:
    settle(state)
    index, used = state.index, state.index.ways + state.index.stashed
    kept = replace(index, **{name: _copied(getattr(index, name)[:used]) for name in FIELDS})  # type: ignore[arg-type]
    arrays = {name: array[: state.next_row] for name, array in _row_arrays(state).items()}
    if state.device.type == "cpu":
        into = {name: torch.empty_like(array) for name, array in arrays.items()}
        now = RowsNow(_numpy(arrays), _numpy(into))
        state.copying.append(now)
    else:
        into, now = {name: _copied(array) for name, array in arrays.items()}, RowsNow({}, {})
    slots = {name: into[f"slot {name}"] for name in state.slots}
    then = replace(state, index=kept, weights=into["weights"], slots=slots, free=_copied(state.free), copying=[])
    return partial(_export_when_copied, now, then)


def _row_arrays(state: TableState) -> dict[str, Tensor]:
    return {"weights": state.weights} | {f"slot {name}": array for name, array in state.slots.items()}


def _numpy(arrays: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: (t.view(torch.int16) if t.dtype == torch.bfloat16 else t).numpy() for name, t in arrays.items()}


def _export_when_copied(now: RowsNow, then: TableState) -> Snapshot:
    now.finish()
    return export(then)


def _copied(tensor: Tensor) -> Tensor:
    return tensor.to("cpu", copy=True)


def restore(state: TableState, snapshot: Snapshot) -> TableState:
    with changing(state) as undo:
        check_snapshot(state.spec, state.slot_specs, snapshot)
        ids, uids = snapshot.ids.to(state.device), state.uids(snapshot.tables.to(state.device))
        if keeps_placement(state.spec, state.used, state.index.buckets, snapshot):
            _restore_placement(state, snapshot, ids, uids)
        else:
            _find_or_insert(state, undo, snapshot, ids, uids)
    return state


def _find_or_insert(state: TableState, undo: Undo, snapshot: Snapshot, ids: Tensor, uids: Tensor) -> None:
    """Scores and stamps are the snapshot's, whatever the layout."""
    mode = LookupMode(touch=False)
    rows, _ = lookup(state, undo, ids, uids, mode=mode, clock=Clock(), incoming=len(ids))
    marks = {"scores": snapshot.scores, "stamps": snapshot.stamps}
    given = {name: values.to(state.device) for name, values in marks.items() if values is not None}
    state.index.write(undo, find(state.index, ids, uids), **given)
    _write_values(state, undo, snapshot, rows)


def _restore_placement(state: TableState, snapshot: Snapshot, ids: Tensor, uids: Tensor) -> None:
    """The empty table's fields are all replaced at the end, at once."""
    index = _index_as_saved(state, snapshot, ids, uids)
    free = snapshot.free_rows.to(state.device, copy=True)  # type: ignore[union-attr]
    make_room(state, snapshot.next_row)
    _write_values(state, None, snapshot, snapshot.row_numbers.to(state.device))  # type: ignore[union-attr]
    state.index, state.used, state.next_row, state.free = index, len(ids), snapshot.next_row, free
    state.by_table = torch.bincount(snapshot.tables, minlength=len(state.spec.uids)).to(state.device)


def _write_values(state: TableState, undo: Undo | None, snapshot: Snapshot, rows: Tensor) -> None:
    at = rows.long()
    overwrite(undo, state.weights, at, snapshot.weights.to(state.device))
    for name, array in state.slots.items():
        given = snapshot.slots.get(name)
        overwrite(undo, array, at, state.slot_specs[name].initial if given is None else given.to(state.device))


def _index_as_saved(state: TableState, snapshot: Snapshot, ids: Tensor, uids: Tensor) -> Index:
    index = empty_index(snapshot.buckets, state.device)
    slot = snapshot.slot_numbers.to(state.device)  # type: ignore[union-attr]
    entry = torch.where(slot >= 0, slot, index.ways - 1 - slot)
    rest = (snapshot.row_numbers, snapshot.scores, snapshot.stamps)
    saved = (ids, uids, *(x.to(state.device) for x in rest))  # type: ignore[union-attr]
    index.write(None, entry, **dict(zip(FIELDS, saved, strict=True)))
    index.stashed = int((slot < 0).sum())
    return index
