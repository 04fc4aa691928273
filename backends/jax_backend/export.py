"""A table's content to the CPU and back.

Sizes: n keys, S buckets, W ways, E entries, R rows, D dim.
"""

from __future__ import annotations

import jax
import numpy as np
import torch
from torch import Tensor

from backends.jax_backend import drain, hashing
from backends.jax_backend.hot import Keys
from backends.jax_backend.inputs import Crossing
from backends.jax_backend.ladder import rung
from backends.jax_backend.lookup import lookup
from backends.jax_backend.programs import Programs
from backends.jax_backend.reports import grow, settle
from backends.jax_backend.state import Index, TableState, empty_index
from backends.records import Marks, Snapshot
from backends.spec import Clock, LookupMode
from bridge.dlpack import to_torch


def marks(state: TableState) -> Marks:
    settle(state, wait=True)
    return _marked(state, jax.device_get(state.index))[1]


def _marked(state: TableState, host: Index) -> tuple[np.ndarray, Marks]:
    """Entries that hold a key, in key order, and their fields."""
    entry = np.flatnonzero(host.rows >= 0)
    ids = drain.ids_of(host.lo[entry], host.hi[entry])
    order = np.lexsort((ids, host.uids[entry]))
    entry = entry[order]
    tables = drain.ordinals_of(state, host.uids[entry])
    fields = (ids[order], tables, host.rows[entry], host.scores[entry], host.stamps[entry])
    return entry, Marks(*map(torch.from_numpy, fields))


def export(programs: Programs, state: TableState) -> Snapshot:
    settle(state, wait=True)
    host = jax.device_get(state.index)
    entry, kept = _marked(state, host)
    rows, ways = kept.rows.numpy(), state.index.ways
    weights, *slots = (to_torch(x)[: len(rows)].cpu().clone() for x in drain.read_rows(programs, state, rows))
    return Snapshot(
        ids=kept.ids,
        tables=kept.tables,
        weights=weights,
        slots=dict(zip(state.slots, slots, strict=True)),
        slot_numbers=torch.from_numpy(np.where(entry < ways, entry, ways - 1 - entry).astype(np.int64)),
        row_numbers=kept.rows,
        scores=kept.scores,
        stamps=kept.stamps,
        free_rows=torch.from_numpy(host.free[: int(host.free_count)].copy()),
        next_row=int(host.next_row),
        buckets=state.index.buckets,
    )


def restore(programs: Programs, state: TableState, snapshot: Snapshot) -> None:
    settle(state, wait=True)
    _check_fits(state, snapshot)
    if _keeps_placement(state, snapshot):
        rows = _place_as_saved(programs, state, snapshot)
    else:
        rows = _find_or_insert(programs, state, snapshot)
    _write_values(programs, state, snapshot, rows)


def _check_fits(state: TableState, snapshot: Snapshot) -> None:
    if snapshot.weights.shape[1] != state.spec.dim:
        raise ValueError(f"snapshot.weights must have {state.spec.dim} columns; got {snapshot.weights.shape[1]}.")
    dtype = getattr(torch, state.spec.dtype)
    if snapshot.weights.dtype != dtype:
        raise ValueError(
            f"snapshot.weights must be {dtype}; got {snapshot.weights.dtype}. Convert them, or the table's dtype."
        )
    for name, values in snapshot.slots.items():
        spec = state.slot_specs.get(name)
        if spec is not None and values.shape[1] != spec.width:
            raise ValueError(f"slot {name!r} must have {spec.width} columns; got {values.shape[1]}.")


def _keeps_placement(state: TableState, snapshot: Snapshot) -> bool:
    if state.known or snapshot.slot_numbers is None:
        return False
    fits = state.spec.max_rows is None or snapshot.next_row <= state.spec.max_rows
    larger = state.spec.grows and snapshot.buckets > state.index.buckets
    return fits and (snapshot.buckets == state.index.buckets or larger)


def _place_as_saved(programs: Programs, state: TableState, snapshot: Snapshot) -> np.ndarray:
    grow(state, programs, snapshot.buckets)
    capacity = state.weights.shape[0]
    # A host copy of an empty index: device_get may show JAX's own memory, which is not ours to write.
    host = jax.tree.map(np.array, empty_index(snapshot.buckets, capacity, state.device))
    ids, ordinals, slot, rows, scores, stamps, free = (
        x.numpy() for x in (
            snapshot.ids, snapshot.tables, snapshot.slot_numbers, snapshot.row_numbers, snapshot.scores,
            snapshot.stamps, snapshot.free_rows,
        )
    )  # fmt: skip
    ways = state.index.ways
    entry = np.where(slot >= 0, slot, ways - 1 - slot)
    lo, hi = ids.view(np.uint64).astype(np.uint32), (ids.view(np.uint64) >> np.uint64(32)).astype(np.uint32)
    uids = np.asarray(state.spec.uids, np.uint32)[ordinals]
    for name, values in {"lo": lo, "hi": hi, "uids": uids, "rows": rows, "scores": scores, "stamps": stamps}.items():
        getattr(host, name)[entry] = values
    in_way = slot >= 0
    host.tags.reshape(-1)[slot[in_way]] = np.asarray(hashing.tags(Keys(lo, hi, uids)))[in_way]
    host.free[: len(free)] = free
    numbers = {"free_count": len(free), "next_row": snapshot.next_row, "stashed": int((slot < 0).sum())}
    host = host._replace(**{name: np.int32(value) for name, value in numbers.items()})
    state.index = jax.tree.map(lambda x: jax.device_put(x, state.device, may_alias=False), host)
    state.known = state.counters.rows = len(ids)
    return rows


def _find_or_insert(programs: Programs, state: TableState, snapshot: Snapshot) -> np.ndarray:
    device = torch.device(state.spec.device)
    ids, tables = snapshot.ids.to(device), snapshot.tables.to(device)
    rows, _ = lookup(programs, state, ids, tables, LookupMode(touch=False), Clock())
    settle(state, wait=True)
    if snapshot.scores is not None or snapshot.stamps is not None:
        _write_marks(programs, state, ids, tables, snapshot)
    return rows.cpu().numpy()


def _write_marks(programs: Programs, state: TableState, ids: Tensor, tables: Tensor, snapshot: Snapshot) -> None:
    size, crossing = rung(len(ids)), Crossing()

    def given(marks: Tensor | None) -> jax.Array | None:
        return None if marks is None else crossing.array(marks.to(ids.device), size, torch.int32)

    keys = crossing.words(ids, size), crossing.array(tables, size, torch.int32)
    state.index = programs.write_marks(
        state.index, state.constants, *keys, np.int32(len(ids)), given(snapshot.scores), given(snapshot.stamps)
    )
    crossing.done(state.index)


def _write_values(programs: Programs, state: TableState, snapshot: Snapshot, rows: np.ndarray) -> None:
    size, crossing = rung(len(rows)), Crossing()
    device = torch.device(state.spec.device)
    at = np.full(size, state.weights.shape[0], np.int32)
    at[: len(rows)] = rows

    def given(values: Tensor | None, initial: float) -> jax.Array | np.ndarray:
        if values is None:
            return np.full((1, 1), initial, np.float32)
        return crossing.array(values.to(device), size)

    values = [given(snapshot.slots.get(name), spec.initial) for name, spec in state.slot_specs.items()]
    arrays = (state.weights, *state.slot_arrays)
    state.weights, *slots = programs.write_rows(arrays, at, (given(snapshot.weights, 0.0), *values))
    state.take_slots(tuple(slots))
    crossing.done(state.weights)
