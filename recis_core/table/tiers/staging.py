"""Bringing rows to the device before their call, and handing them over when it comes. Under the table's lock.

Sizes: U unique keys of a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recis_core.backends import LookupCall
from recis_core.backends.numba_backend import partition
from recis_core.backends.numba_backend.partition import Unique
from recis_core.backends.tier_loops.columns import count_down, count_up, fill
from recis_core.options.cache_policy import Lookahead
from recis_core.table.tier_store import TierStore
from recis_core.table.tiers.cache_stats import NOWHERE, ON_DEVICE
from recis_core.table.tiers.planned_calls import Early, PlannedCall, digest_of

if TYPE_CHECKING:
    from recis_core.table.tiers.tiered_state import TieredState


def unique_keys(call: LookupCall) -> Unique:
    """Of a call, in host memory."""
    ids = call.ids.detach().cpu().contiguous().numpy()
    return partition.unique_keys(ids, np.array(call.lengths, np.int64), np.array(call.ordinals, np.int32))


def plan(state: TieredState, digest: bytes, keys: Unique) -> PlannedCall:
    """Say that this call will come, and to a policy that looks ahead when each of its rows is used."""
    planned = state.planned_calls.plan(digest, keys)
    if isinstance(state.policy, Lookahead):
        first = state.planned_calls.note_uses(planned)
        rows = state.device.find(planned.ids[first], planned.tables[first])
        fill(state.device.index.at["next_use"], rows[rows >= 0], planned.number)
    return planned


def read_early(state: TieredState, planned: PlannedCall) -> None:
    """Read what lies on disk. The lock is held to ask where, not while reading: `stage` sees what has moved since."""
    with state.lock:  # to ask for the disk, too, for that may open it
        disk = state.lower.disk
        if disk is None:
            return
        away = np.flatnonzero(state.device.find(planned.ids, planned.tables) < 0)
        away = away[state.lower.host.rows_of(planned.ids[away], planned.tables[away]) < 0]
    try:
        early = _from_disk(disk, planned, away)
    except Exception:
        with state.lock:
            if state.lower.disk is disk:
                raise
        return  # slots were added meanwhile, which closes it and opens another
    with state.lock:
        if state.lower.disk is disk:  # another one may number other rows alike
            planned.early = early


def _from_disk(disk: TierStore, planned: PlannedCall, away: np.ndarray) -> Early:
    places, at = np.full(len(planned.ids), -1, np.int64), np.zeros(len(planned.ids), np.int64)
    places[away] = disk.find(planned.ids[away], planned.tables[away])
    away = away[places[away] >= 0]
    found, packed = disk.read(planned.ids[away], planned.tables[away])
    places[away[~found]] = -1
    at[away] = np.arange(len(away))
    return Early(places, at, packed)


def stage(state: TieredState, planned: PlannedCall, *, new: bool) -> None:
    """Bring the call's rows to the device, as many as find room, and hold them there; with `new` also what is nowhere yet."""
    rows = state.device.find(planned.ids, planned.tables)
    found = np.where(rows < 0, NOWHERE, ON_DEVICE)
    missing = np.flatnonzero(rows < 0)
    if not new:
        missing = missing[state.lower.find(planned.ids[missing], planned.tables[missing]).known]
    rows[missing], found[missing], _ = state.bring_missing(
        planned.ids, planned.tables, missing, rows[rows >= 0], state.tick, planned.early
    )
    here = rows[rows >= 0]
    fill(state.device.index.at["next_use"], here, planned.number)
    planned.rows, planned.found, planned.early = rows, found, None
    planned.holds = count_up(state.device.index.at["held"], here) is None


def take(state: TieredState, call: LookupCall) -> tuple[PlannedCall | None, bool]:
    """This call as it was planned, no longer held, if it was; and whether all its rows are where it says."""
    if not state.planned_calls.calls:
        return None, False
    planned = state.planned_calls.planned_as(digest_of(call))
    if planned is None:
        return None, False
    ready = planned.holds and planned.rows is not None and bool((planned.rows >= 0).all())
    _leave(state, planned.number)
    return planned, ready


def _leave(state: TieredState, number: int) -> None:
    """Calls up to this one have come, or never will: first they let go what they hold, then they are no longer planned."""
    while state.planned_calls.calls and state.planned_calls.calls[0].number <= number:
        release(state, state.planned_calls.calls[0])
        state.planned_calls.pop()


def count_brought(state: TieredState, planned: PlannedCall) -> None:
    """What was brought for a call counts as found where it was, though a lookup that asked before has found it on the device.

    So it is where an admission hook looks for the keys first.
    """
    if planned.rows is None or planned.found is None:
        return
    brought = (planned.rows >= 0) & (planned.found != ON_DEVICE)
    counts, found = planned.counts[brought], planned.found[brought]
    state.stats.asked(counts, np.full(len(counts), ON_DEVICE), times=-1)
    state.stats.asked(counts, found)


def release(state: TieredState, planned: PlannedCall) -> None:
    """Its rows may leave again. Of a call that holds none it is nothing."""
    if planned.holds and planned.rows is not None:
        here = planned.rows[planned.rows >= 0]
        planned.holds = count_down(state.device.index.at["held"], here) is not None


def unstage(state: TieredState) -> None:
    """Before rows get other numbers, or go: planned calls will find theirs when they come."""
    for planned in state.planned_calls.calls:
        release(state, planned)
        planned.rows = planned.early = None  # what was read early may be of another format by then


def give_up(state: TieredState, number: int) -> None:
    """Calls up to this one that never came as they were planned."""
    _leave(state, number)


def forget(state: TieredState) -> None:
    """Nothing that is planned will come."""
    _leave(state, state.planned_calls.last)
