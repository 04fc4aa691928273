"""Erase, marks, export and restore.

Sizes: n keys, W ways.
"""

from __future__ import annotations

import torch
from torch import Tensor

from backends.records import Marks, Snapshot
from backends.spec import Clock, LookupMode
from backends.torch_backend.lookup import find, lookup, ordinals
from backends.torch_backend.place import key_order
from backends.torch_backend.state import EMPTY, FIELDS, Index, TableState, empty_index, make_room


def erase(state: TableState, ids: Tensor, uids: Tensor) -> None:
    entry = find(state.index, ids, uids)
    entry = entry[entry >= 0]
    rows = state.index.rows[entry].sort().values
    state.index.write(entry, **EMPTY)
    _close_gaps(state.index)
    state.free = torch.cat([state.free, rows])
    state.used -= len(entry)
    state.counters.erased += len(entry)


def _close_gaps(index: Index) -> None:
    """Later stash entries move down over erased ones."""
    at = torch.arange(index.ways, index.ways + index.stashed, device=index.rows.device)
    kept = index.read(at[index.rows[at] >= 0])
    index.write(at, **EMPTY)
    index.stashed = len(kept["rows"])
    index.write(at[: index.stashed], **kept)


def marks(state: TableState) -> Marks:
    return _marks(state, _occupied(state.index))


def _occupied(index: Index) -> Tensor:
    """Entries that hold a key, in key order."""
    entry = torch.nonzero(index.rows >= 0).squeeze(1)
    return entry[key_order(index.ids[entry], index.uids[entry])]


def _marks(state: TableState, entry: Tensor) -> Marks:
    e = state.index.read(entry)
    tables = ordinals(state, e["uids"])
    return Marks(*(x.cpu() for x in (e["ids"], tables, e["rows"], e["scores"], e["stamps"])))


def export(state: TableState) -> Snapshot:
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


def restore(state: TableState, snapshot: Snapshot) -> None:
    check_fits(state, snapshot)
    ids, uids = snapshot.ids.to(state.device), state.uids(snapshot.tables.to(state.device))
    if _keeps_placement(state, snapshot):
        rows = _place_as_saved(state, snapshot, ids, uids)
    else:
        rows, _ = lookup(state, ids, uids, mode=LookupMode(touch=False), clock=Clock(), incoming=len(ids))
        _write_history(state, snapshot, find(state.index, ids, uids))
    rows = rows.long()
    state.weights[rows] = snapshot.weights.to(state.device)
    for name, array in state.slots.items():
        given = snapshot.slots.get(name)
        array[rows] = state.slot_specs[name].initial if given is None else given.to(state.device)


def check_fits(state: TableState, snapshot: Snapshot) -> None:
    if snapshot.weights.shape != (len(snapshot.ids), state.spec.dim) or snapshot.weights.dtype != state.weights.dtype:
        raise ValueError(
            f"weights must be {state.weights.dtype} [{len(snapshot.ids)}, {state.spec.dim}]; "
            f"got {snapshot.weights.dtype} {list(snapshot.weights.shape)}."
        )
    for name, values in snapshot.slots.items():
        spec = state.slot_specs.get(name)
        if spec is not None and values.shape[1] != spec.width:
            raise ValueError(f"slot {name!r} must have {spec.width} columns; got {values.shape[1]}.")


def _keeps_placement(state: TableState, snapshot: Snapshot) -> bool:
    if state.used or snapshot.slot_numbers is None:
        return False
    fits = state.spec.max_rows is None or snapshot.next_row <= state.spec.max_rows
    return fits and (state.spec.grows or snapshot.buckets == state.index.buckets)


def _write_history(state: TableState, snapshot: Snapshot, entry: Tensor) -> None:
    """Scores and stamps, which eviction goes by, outlive a change of layout."""
    for name, values in (("scores", snapshot.scores), ("stamps", snapshot.stamps)):
        if values is not None:
            state.index.write(entry, **{name: values.to(state.device)})


def _place_as_saved(state: TableState, snapshot: Snapshot, ids: Tensor, uids: Tensor) -> Tensor:
    index = empty_index(snapshot.buckets, state.device)
    slot = snapshot.slot_numbers.to(state.device)  # type: ignore[union-attr]
    entry = torch.where(slot >= 0, slot, index.ways - 1 - slot)
    rest = (snapshot.row_numbers, snapshot.scores, snapshot.stamps)
    saved = (ids, uids, *(x.to(state.device) for x in rest))  # type: ignore[union-attr]
    index.write(entry, **dict(zip(FIELDS, saved, strict=True)))
    index.stashed = int((slot < 0).sum())
    state.index, state.used, state.next_row = index, len(ids), snapshot.next_row
    state.free = snapshot.free_rows.to(state.device)  # type: ignore[union-attr]
    make_room(state, state.next_row)
    return index.rows[entry]
