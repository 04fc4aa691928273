"""Rows below the device that have no room on it: they are changed in a table that lives as long as the change.

Sizes: n keys, at most one of each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from recis_core.table.tiers.row_format import Rows, new_marks

if TYPE_CHECKING:
    from recis_core.table.tiers.device_tier import DeviceTier
    from recis_core.table.tiers.key_counts import KeyCounts
    from recis_core.table.tiers.lower_tiers import Fetched, LowerTiers
    from recis_core.table.tiers.tiered_state import KeyArrays, TieredState

Change = Callable[[Any, Tensor], Any]  # (table of the backend's, row numbers int32 [n] there) -> table


@dataclass
class Changed:
    """Rows as they are to be below the device, and as they were there."""

    ids: np.ndarray
    tables: np.ndarray
    rows: Rows
    before: Fetched
    made: np.ndarray  # of the table's KeyCounts, before

    def write(self, lower: LowerTiers, counts: KeyCounts) -> None:
        lower.write(self.ids, self.tables, self.rows)
        counts.came(self.tables[~self.before.found])

    def take_back(self, lower: LowerTiers, counts: KeyCounts) -> None:
        """As they were, before anything else happens to the table. May be called again, and where nothing was written."""
        known = self.before.found
        if known.any():
            lower.write(self.ids[known], self.tables[known], self.before.rows)
        if not known.all():
            lower.erase(self.ids[~known], self.tables[~known])
        counts.made = self.made


def change(
    tiers: TieredState, below: KeyArrays, change_below: Change, here: np.ndarray, change_here: Callable[[Any], Any]
) -> None:
    """Rows below the device, by key, and rows on it, by number: change_below(table, numbers) -> table, and
    change_here(table) -> table. Both happen, or neither.
    """
    device, lower, counts = tiers.device, tiers.lower, tiers.counts
    changed = None
    try:
        if len(below[0]):
            changed = _changed(device, lower, counts, below, change_below, step=tiers.step, tick=tiers.tick)
            changed.write(lower, counts)
        device.changed(here)
        device.state = change_here(device.state)
    except BaseException:
        if changed is not None:
            tiers.lock.whole(partial(changed.take_back, lower, counts))
        raise


def new_rows(device: DeviceTier, lower: LowerTiers, weights: Tensor, *, step: int, tick: int) -> Rows:
    """Rows without uses. weights: [n, D], their initial values."""
    marks = _marks(device, len(weights), None, uses=0, step=step, tick=tick)
    return lower.host_format.complete(weights.to(device.dtype).cpu(), {}, marks)


def _changed(
    device: DeviceTier, lower: LowerTiers, counts: KeyCounts, keys: KeyArrays, change: Change, *, step: int, tick: int
) -> Changed:
    """Rows as `change` leaves them; nothing is written yet. To new rows it is their first use, to others none."""
    ids, tables = keys
    before = lower.read(ids, tables)
    rows, known = before.rows, np.flatnonzero(before.found)
    if len(known) < len(ids):
        new = np.flatnonzero(~before.found)
        initial = new_rows(device, lower, device.initial(ids[new], tables[new]), step=step, tick=tick)
        rows = rows.followed_by(initial).pick(np.argsort(np.concatenate([known, new])))
    table, numbers = device.table_of(ids, tables, rows.weights, rows.slots)
    weights, slots = device.backend.read_rows(change(table, numbers), numbers)
    marks = _marks(device, len(ids), before, uses=1, step=step, tick=tick)
    values = Rows(weights.cpu(), {name: each.cpu() for name, each in slots.items()}, marks)
    return Changed(ids, tables, values, before, counts.made)


def _marks(device: DeviceTier, count: int, before: Fetched | None, *, uses: int, step: int, tick: int) -> np.ndarray:
    """Of rows that are written once more; new ones have had so many uses."""
    marks, scores, carried = new_marks(count, device.marks), np.full(count, -np.inf), np.full(count, np.nan)
    marks["used"] = step
    if device.counts:
        marks["uses"] = uses
    if before is not None:
        marks[before.found], carried[before.found] = before.rows.marks, before.rows.marks["score"]
    device.policy.enter(scores, np.arange(count), carried, tick)
    marks["score"] = scores
    marks["version"] += 1
    return marks


def slot_of(lower: LowerTiers, name: str, ids: np.ndarray, tables: np.ndarray) -> Tensor:
    """float32 [n, width]; of unknown keys what new rows have."""
    fetched = lower.read(ids, tables)
    slot = next(slot for slot in lower.host_format.slots if slot.name == name)
    values = torch.full((len(ids), slot.width), slot.initial)
    values[torch.from_numpy(fetched.found)] = fetched.rows.slots[name]
    return values
