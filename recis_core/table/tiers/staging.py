"""Rows are brought to the device before their planned call comes.

Sizes: U unique keys of a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recis_core.backends.tier_loops.columns import count_up, fill
from recis_core.table.tier_store import TierStore
from recis_core.table.tiers.cache_stats import NOWHERE, ON_DEVICE
from recis_core.table.tiers.planned_calls import Early, PlannedCall

if TYPE_CHECKING:
    from recis_core.table.tiers.tiered_state import TieredState


def read_early(tiers: TieredState, planned: PlannedCall) -> None:
    """Read rows from disk. The lock is held to find them, not while reading; `stage` sees which have moved since."""
    with tiers.lock:  # for `lower` too, which may open the disk
        disk = tiers.lower.disk
        if disk is None:
            return
        away = np.flatnonzero(tiers.device.find(planned.ids, planned.tables) < 0)
        away = away[tiers.lower.host.rows_of(planned.ids[away], planned.tables[away]) < 0]
    try:
        early = _from_disk(disk, planned, away)
    except Exception:
        with tiers.lock:
            if tiers.lower.disk is disk:
                raise
        return  # slots were added meanwhile: another disk was opened
    with tiers.lock:
        if tiers.lower.disk is disk:  # another disk may give these numbers to other rows
            planned.early = early


def _from_disk(disk: TierStore, planned: PlannedCall, away: np.ndarray) -> Early:
    places, at = np.full(len(planned.ids), -1, np.int64), np.zeros(len(planned.ids), np.int64)
    places[away] = disk.find(planned.ids[away], planned.tables[away])
    away = away[places[away] >= 0]
    found, packed = disk.read(planned.ids[away], planned.tables[away])
    places[away[~found]] = -1
    at[away] = np.arange(len(away))
    return Early(places, at, packed)


def stage(tiers: TieredState, planned: PlannedCall, *, new: bool) -> None:
    """Bring the call's rows to the device, as many as find room, and hold them there; with `new` also rows for new keys."""
    ids, tables, at = planned.ids, planned.tables, tiers.device.index.at
    rows = tiers.device.find(ids, tables)
    found = np.where(rows < 0, NOWHERE, ON_DEVICE)
    missing = np.flatnonzero(rows < 0)
    if not new:
        missing = missing[tiers.lower.find(ids[missing], tables[missing]).known]
    early = None if planned.early is None else planned.early.pick(missing)
    rows[missing], found[missing], _ = tiers.bring(
        ids[missing], tables[missing], kept=rows[rows >= 0], tick=tiers.tick, early=early
    )
    here = rows[rows >= 0]
    fill(at["next_use"], here, planned.number)
    planned.rows, planned.found, planned.early = rows, found, None
    planned.holds = count_up(at["held"], here) is None
