"""Reports of programs, read a step later, and growth: no host sync while a table is far from full.

The host keeps an upper bound of the keys: the last count read plus all ids since. Only if this bound would grow the
table does the host wait for the exact count, and apply placement's rule to it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recis_core.backends import placement
from recis_core.backends.jax_backend.programs import Programs
from recis_core.backends.jax_backend.state import REPORT, TableState, row_capacity
from recis_core.backends.jax_backend.unfinished import note_report
from recis_core.backends.spec import Counters
from recis_core.backends.whole import no_room

COUNTED = ("found", "inserted", "unknown", "evicted", "erased")


def settle(state: TableState, *, wait: bool) -> None:
    """Read the reports that are ready, or all of them.

    Raises:
      TableFull: a call so far found no room; it wrote nothing.
    """
    while state.reports and (wait or state.reports[0][0].is_ready()):  # type: ignore[attr-defined]
        numbers = dict(zip(REPORT, np.asarray(state.reports[0][0]).tolist(), strict=True))
        failed = state.failed or numbers["failed"]
        counted, rest = _counted(state.counters, numbers), state.reports[1:]
        state.counters, state.known, state.failed, state.reports = counted, numbers["used"], failed, rest
    if state.failed:
        failed, state.failed = state.failed, 0
        raise no_room(state.spec, failed, state.known, state.counters.stashed)


def _counted(counters: Counters, numbers: dict[str, int]) -> Counters:
    added = {name: getattr(counters, name) + numbers[name] for name in COUNTED}
    return replace(counters, **added, rows=numbers["used"], stashed=numbers["stashed"])


def reported(state: TableState) -> None:
    """Queue the last program's report. Waits only where the call may have failed."""
    note_report(state)
    limit = state.spec.max_rows
    if limit is not None and state.upper > limit:
        settle(state, wait=True)


def make_room(state: TableState, programs: Programs, incoming: int) -> None:
    """Grow as placement says, before `incoming` ids are looked up."""
    settle(state, wait=False)
    if (
        not state.spec.grows
        or placement.grown_buckets(state.index.buckets, state.upper, incoming) == state.index.buckets
    ):
        return
    settle(state, wait=True)
    grow(state, programs, placement.grown_buckets(state.index.buckets, state.known, incoming))


def grow(state: TableState, programs: Programs, buckets: int) -> None:
    """One array at a time, so that at most one is held twice; the index last, for an array with more rows changes nothing."""
    if buckets == state.index.buckets:
        return
    capacity = row_capacity(state.spec, buckets)
    grow_rows(state, programs, capacity)
    index = programs.grow_index(state.index, buckets=buckets, capacity=capacity)
    state.index, state.grown = index, index


def grow_rows(state: TableState, programs: Programs, capacity: int) -> None:
    if state.weights.shape[0] < capacity:
        state.weights = programs.grow_rows(state.weights, np.float32(0), capacity=capacity)
    for name, spec in state.slot_specs.items():
        if state.slots[name].shape[0] < capacity:
            state.slots[name] = programs.grow_rows(state.slots[name], np.float32(spec.initial), capacity=capacity)


def rows_by_table(state: TableState, programs: Programs) -> tuple[int, ...]:
    settle(state, wait=True)
    if len(state.spec.uids) == 1:
        return (state.known,)
    return tuple(np.asarray(programs.rows_by_table(state.index, state.constants)).tolist())


def counters(state: TableState) -> Counters:
    settle(state, wait=True)
    return replace(state.counters, stashed=int(state.index.stashed), buckets=state.index.buckets)
