"""Find or insert: rows of unique keys.

Sizes: U unique keys, M new ones of a chunk, W ways.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.backends import placement
from recis_core.backends.records import Evicted
from recis_core.backends.rows_now import keep
from recis_core.backends.spec import Clock, LookupMode
from recis_core.backends.torch_backend.grow import grow
from recis_core.backends.torch_backend.initial_values import initial_values
from recis_core.backends.torch_backend.place import candidates, key_order, place, way_numbers
from recis_core.backends.torch_backend.state import (
    DTYPE,
    Index,
    TableState,
    count_tables,
    ordinals,
    put,
    take_rows,
)
from recis_core.backends.whole import Undo, no_room


def find(index: Index, ids: Tensor, uids: Tensor) -> Tensor:
    """The entry of each key, int64 [U], or -1."""
    ways = way_numbers(candidates(index, ids, uids)).reshape(len(ids), 2 * placement.WAYS)
    entry = _matching(index, ways, ids, uids)
    if index.stashed and len(ids):
        stash = torch.arange(index.ways, index.ways + index.stashed, device=ids.device)
        entry = torch.maximum(entry, _matching(index, stash.expand(len(ids), -1), ids, uids))
    return entry


def _matching(index: Index, at: Tensor, ids: Tensor, uids: Tensor) -> Tensor:
    hit = (index.ids[at] == ids[:, None]) & (index.uids[at] == uids[:, None]) & (index.rows[at] >= 0)
    return torch.where(hit, at, -1).amax(1)


def lookup(
    state: TableState, undo: Undo, ids: Tensor, uids: Tensor, *, mode: LookupMode, clock: Clock, incoming: int
) -> tuple[Tensor, Evicted | None]:
    """Row numbers int32 [U] of unique keys, -1 for unknown; and the evicted keys."""
    if mode.insert:
        grow(state, undo, incoming)
    index = state.index
    entry = find(index, ids, uids)
    known = entry >= 0
    if mode.touch:
        _touch(state, undo, entry[known], clock)
    evicted = _insert(state, undo, ids[~known], uids[~known], clock) if mode.insert else None
    if mode.touch:
        _count(state, known, mode)
    entry = find(index, ids, uids) if mode.insert and not bool(known.all()) else entry
    return torch.where(entry >= 0, index.rows[entry.clamp(min=0)], -1), evicted


def _touch(state: TableState, undo: Undo, entry: Tensor, clock: Clock) -> None:
    score = clock.step if state.spec.score == "step" else state.index.scores[entry] + 1
    state.index.write(undo, entry, scores=score, stamps=clock.step)


def _count(state: TableState, known: Tensor, mode: LookupMode) -> None:
    found = int(known.sum())
    state.counters.found += found
    if not mode.insert:
        state.counters.unknown += len(known) - found


def _insert(state: TableState, undo: Undo, ids: Tensor, uids: Tensor, clock: Clock) -> Evicted | None:
    """Insert absent unique keys, in key order, chunk by chunk."""
    order = key_order(ids, uids)
    lost = [
        _insert_chunk(state, undo, ids[chunk], uids[chunk], clock)
        for chunk in order.split(placement.CHUNK)
        if len(chunk)
    ]
    state.counters.inserted += len(ids)
    return _joined(state, lost) if state.spec.evict else None


def _insert_chunk(state: TableState, undo: Undo, ids: Tensor, uids: Tensor, clock: Clock) -> Evicted:
    index, spec = state.index, state.spec
    may_be_new = torch.arange(len(ids), device=ids.device) < state.rows_left
    entry = place(index, ids, uids, may_be_new, clock.pinned_from, spec.evict)
    waits = entry < 0
    displaces = ~waits & (index.rows[entry.clamp(min=0)] >= 0)
    if int((~displaces).sum()) > state.rows_left or index.stashed + int(waits.sum()) > placement.STASH:
        raise no_room(spec, len(ids), state.used, index.stashed)
    rows = torch.empty(len(ids), dtype=torch.int32, device=ids.device)
    lost = _drain(state, entry[displaces])
    if state.copying:
        keep(state.copying, lost.rows)
    rows[displaces] = lost.rows
    rows[~displaces] = take_rows(state, int((~displaces).sum()))
    entry[waits] = index.ways + index.stashed + torch.arange(int(waits.sum()), device=ids.device)
    score = clock.step if spec.score == "step" else 1
    index.write(undo, entry, ids=ids, uids=uids, rows=rows, scores=score, stamps=clock.step)
    index.stashed += int(waits.sum())
    state.used += len(ids) - len(lost.rows)
    count_tables(state, uids, 1)
    if len(lost.rows):
        count_tables(state, state.uids(lost.tables), -1)
    state.counters.evicted += len(lost.rows)
    _begin(state, undo, ids, uids, rows, lost)
    return lost


def _drain(state: TableState, entry: Tensor) -> Evicted:
    """Copy the victims' keys and rows before they are overwritten."""
    old = state.index.read(entry)
    rows = old["rows"].long()
    slots = {name: array[rows] for name, array in state.slots.items()}
    return Evicted(old["ids"], ordinals(state, old["uids"]), old["rows"], state.weights[rows], slots)


def _begin(state: TableState, undo: Undo, ids: Tensor, uids: Tensor, rows: Tensor, lost: Evicted) -> None:
    """Initial weights and slots of new ids. Undo keeps victims' rows alone: the other rows had no key."""
    spec, at, taken = state.spec, rows.long(), lost.rows.long()
    values = initial_values(spec, uids, ids).to(DTYPE[spec.dtype])
    undo.note(put, state.weights, taken, lost.weights)
    put(state.weights, at, values)
    for name, array in state.slots.items():
        undo.note(put, array, taken, lost.slots[name])
        put(array, at, state.slot_specs[name].initial)


def _joined(state: TableState, lost: list[Evicted]) -> Evicted:
    lost = lost or [_drain(state, torch.zeros(0, dtype=torch.int64, device=state.device))]
    by_key = [key_order(e.ids, state.uids(e.tables)) for e in lost]

    def join(read):  # type: ignore[no-untyped-def]
        return torch.cat([read(e)[order] for e, order in zip(lost, by_key, strict=True)])

    slots = {name: join(lambda e, n=name: e.slots[n]) for name in state.slots}
    return Evicted(
        join(lambda e: e.ids), join(lambda e: e.tables), join(lambda e: e.rows), join(lambda e: e.weights), slots
    )
