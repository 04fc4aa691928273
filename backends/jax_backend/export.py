"""A table's content to the CPU and back.

Sizes: n keys, S buckets, W ways, E entries, R rows, D dim.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor

from recis_core.backends.jax_backend import drain, hashing
from recis_core.backends.jax_backend.embed_calls import manner_of, prepare
from recis_core.backends.jax_backend.inputs import Crossing
from recis_core.backends.jax_backend.ladder import rung
from recis_core.backends.jax_backend.programs import Programs
from recis_core.backends.jax_backend.reports import grow_rows, settle
from recis_core.backends.jax_backend.state import REPORT, WEIGHTS, TableState, empty_index, row_capacity
from recis_core.backends.jax_backend.unfinished import finish, is_lost, land, note_report, revive, whole
from recis_core.backends.records import Marks, Snapshot
from recis_core.backends.snapshot_checks import check_snapshot, keeps_placement
from recis_core.backends.spec import LookupMode
from recis_core.bridge.dlpack import to_torch
from recis_core.pallas_kernels.index import Index, Keys


def marks(programs: Programs, state: TableState) -> Marks:
    finish(programs, state)
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


def keys_from(programs: Programs, state: TableState, start: int, most: int) -> tuple[Tensor, Tensor, Tensor, int]:
    finish(programs, state)
    settle(state, wait=True)
    end, index = start + most, state.index
    lo, hi, uids, rows = jax.device_get([x[start:end] for x in (index.lo, index.hi, index.uids, index.rows)])
    at = np.flatnonzero(rows >= 0)
    columns = drain.ids_of(lo[at], hi[at]), drain.ordinals_of(state, uids[at]), rows[at]
    ids, tables, numbers = (torch.from_numpy(column) for column in columns)
    return ids, tables, numbers, end if end < index.entries else -1


def export(programs: Programs, state: TableState) -> Snapshot:
    finish(programs, state)
    settle(state, wait=True)
    host = jax.device_get(state.index)
    entry, kept = _marked(state, host)
    rows, ways = kept.rows.numpy(), state.index.ways
    weights, slots = _rows_at(programs, state, rows)
    return Snapshot(
        ids=kept.ids,
        tables=kept.tables,
        weights=weights,
        slots=slots,
        slot_numbers=torch.from_numpy(np.where(entry < ways, entry, ways - 1 - entry).astype(np.int64)),
        row_numbers=kept.rows,
        scores=kept.scores,
        stamps=kept.stamps,
        free_rows=torch.from_numpy(host.free[: int(host.free_count)].copy()),
        next_row=int(host.next_row),
        buckets=state.index.buckets,
    )


def export_parts(programs: Programs, state: TableState, most: int) -> Iterator[Snapshot]:
    finish(programs, state)
    settle(state, wait=True)
    kept = _marked(state, jax.device_get(state.index))[1]
    for begin in range(0, max(1, len(kept.rows)), most):
        at = slice(begin, begin + most)
        weights, slots = _rows_at(programs, state, kept.rows.numpy()[at])
        scores, stamps = kept.scores[at], kept.stamps[at]
        yield Snapshot(kept.ids[at], kept.tables[at], weights, slots, scores=scores, stamps=stamps)


def _rows_at(programs: Programs, state: TableState, rows: np.ndarray) -> tuple[Tensor, dict[str, Tensor]]:
    weights, *slots = (to_torch(x)[: len(rows)].cpu().clone() for x in drain.read_rows(programs, state, rows))
    return weights, dict(zip(state.slots, slots, strict=True))


def export_later(programs: Programs, state: TableState) -> Callable[[], Snapshot]:
    """The next stage donates the arrays, so that all is brought here at once."""
    snapshot = export(programs, state)
    return lambda: snapshot


def restore(programs: Programs, state: TableState, snapshot: Snapshot) -> None:
    check_snapshot(state.spec, state.slot_specs, snapshot)
    land(state)
    if is_lost(state):
        revive(state)
    with whole(programs, state):
        settle(state, wait=True)
        if _keeps_placement(state, snapshot):
            _restore_placement(programs, state, snapshot)
        else:
            _find_or_insert(programs, state, snapshot)


def _keeps_placement(state: TableState, snapshot: Snapshot) -> bool:
    """Never with fewer buckets than the table has, for its rows are as many as these need."""
    kept = keeps_placement(state.spec, state.known, state.index.buckets, snapshot)
    return kept and snapshot.buckets >= state.index.buckets


def _restore_placement(programs: Programs, state: TableState, snapshot: Snapshot) -> None:
    """The empty table's fields are all replaced at the end, at once."""
    capacity = max(row_capacity(state.spec, snapshot.buckets), state.index.free.shape[0], snapshot.next_row)
    host = _index_as_saved(state, snapshot, capacity)
    index = jax.tree.map(lambda x: jax.device_put(x, state.device, may_alias=False), host)
    grow_rows(state, programs, capacity)
    written, crossing = _write_values(programs, state, snapshot, snapshot.row_numbers.numpy())  # type: ignore[union-attr]
    known = len(snapshot.ids)
    counters = dataclasses.replace(state.counters, rows=known)
    state.landed, state.index, state.known, state.counters = written(), index, known, counters
    crossing.done(state.landed)
    land(state)


def _index_as_saved(state: TableState, snapshot: Snapshot, capacity: int) -> Index:
    # A host copy of an empty index: device_get may show JAX's own memory, which is not ours to write.
    host = jax.tree.map(np.array, empty_index(snapshot.buckets, capacity, state.device))
    ids, ordinals, slot, rows, scores, stamps, free = (
        x.numpy() for x in (  # type: ignore[union-attr]
            snapshot.ids, snapshot.tables, snapshot.slot_numbers, snapshot.row_numbers, snapshot.scores,
            snapshot.stamps, snapshot.free_rows,
        )
    )  # fmt: skip
    ways = host.ways
    entry = np.where(slot >= 0, slot, ways - 1 - slot)
    lo, hi = ids.view(np.uint64).astype(np.uint32), (ids.view(np.uint64) >> np.uint64(32)).astype(np.uint32)
    uids = np.asarray(state.spec.uids, np.uint32)[ordinals]
    for name, values in {"lo": lo, "hi": hi, "uids": uids, "rows": rows, "scores": scores, "stamps": stamps}.items():
        getattr(host, name)[entry] = values
    in_way = slot >= 0
    host.tags.reshape(-1)[slot[in_way]] = np.asarray(hashing.tags(Keys(lo, hi, uids)))[in_way]
    host.free[: len(free)] = free
    numbers = {"free_count": len(free), "next_row": snapshot.next_row, "stashed": int((slot < 0).sum())}
    return host._replace(**{name: np.int32(value) for name, value in numbers.items()})


def _find_or_insert(programs: Programs, state: TableState, snapshot: Snapshot) -> None:
    """Works on a copy of the index, which replaces the index when the rows are written."""
    device, n = torch.device(state.spec.device), len(snapshot.ids)
    prepare(programs, state, LookupMode(touch=False), n)
    size, crossing = rung(n), Crossing()
    keys = crossing.words(snapshot.ids.to(device), size), crossing.array(snapshot.tables.to(device), size, torch.int32)
    manner = dataclasses.replace(manner_of(state.spec, LookupMode(touch=False)), repeats=False)
    index, sought = programs.lookup(
        jax.tree.map(jnp.copy, state.index), state.constants, *keys, np.array([n, 0, 0], np.int32), manner=manner
    )
    state.failed = int(np.asarray(sought.report)[REPORT.index("failed")])
    if state.failed:
        settle(state, wait=False)
    given = (
        None if marks is None else crossing.array(marks.to(device), size, torch.int32)
        for marks in (snapshot.scores, snapshot.stamps)
    )  # fmt: skip
    if snapshot.scores is not None or snapshot.stamps is not None:
        index = programs.write_marks(index, state.constants, *keys, np.int32(n), *given)
    written, values = _write_values(programs, state, snapshot, np.asarray(sought.rows)[:n])
    state.incoming = 0
    state.landed, state.index, state.report = written(), index, sought.report
    values.done(state.landed)
    crossing.done(state.index)
    land(state)
    note_report(state)
    settle(state, wait=True)


def _write_values(
    programs: Programs, state: TableState, snapshot: Snapshot, rows: np.ndarray
) -> tuple[Callable[[], tuple[jax.Array, ...]], Crossing]:
    """The program that writes weights and slots, its arguments bound; and the crossing to end after it.

    The statement that calls the program must land its results: from the call on the table's arrays are gone.
    """
    size, crossing = rung(len(rows)), Crossing()
    device = torch.device(state.spec.device)
    at = np.full(size, state.weights.shape[0], np.int32)
    at[: len(rows)] = rows

    def given(values: Tensor | None, initial: float) -> jax.Array | np.ndarray:
        if values is None:
            return np.full((1, 1), initial, np.float32)
        return crossing.array(values.to(device), size)

    values = [given(snapshot.slots.get(name), spec.initial) for name, spec in state.slot_specs.items()]
    values.insert(0, given(snapshot.weights, 0.0))

    state.landing = (WEIGHTS, *state.slots)
    return partial(programs.write_rows, (state.weights, *state.slot_arrays), at, tuple(values)), crossing
