"""Rows that are not on the device and have no place there: a table of the backend's that lives as long as a call.

Sizes: n keys, at most one of each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from recis_core.backends import Clock
from recis_core.table.tiers.device_tier import FIND_OR_INSERT
from recis_core.table.tiers.key_counts import counted
from recis_core.table.tiers.lower_tiers import Fetched
from recis_core.table.tiers.row_format import COUNTED, Rows, marks_of, new_marks

if TYPE_CHECKING:
    from recis_core.table.tiers.tiered_state import TieredState

LEAST_ROWS = 64  # of such a table; it has a power of two, for programs are compiled by size


def table_aside(
    tiers: TieredState, ids: np.ndarray, tables: np.ndarray, *, insert: bool, slots: bool = False
) -> tuple[Any, Tensor, Fetched]:
    """A table of the backend's that lives as long as a call, row numbers int32 [n] there, and what was read from below.

    It has the rows that are known, with insert all; without slots they have weights alone. Unknown keys have -1.
    """
    rows = tiers.device.find_known(ids, tables)
    here, away = np.flatnonzero(rows >= 0), np.flatnonzero(rows < 0)
    fetched = tiers.lower.read(ids[away], tables[away])
    known = np.concatenate([here, away[fetched.found]])
    held = tiers.device.read(rows[here]).followed_by(fetched.rows)
    size = max(LEAST_ROWS, 1 << (len(ids) - 1).bit_length())
    state = tiers.backend.create(dataclasses.replace(tiers.spec, rows=size, max_rows=None, evict=False))
    if slots:
        state = tiers.backend.add_slots(state, tiers.slots)
    keys = np.arange(len(ids)) if insert else known
    state, given, _ = tiers.backend.lookup(
        state, *tiers.device.keys_there(ids[keys], tables[keys]), mode=FIND_OR_INSERT, clock=Clock()
    )
    numbers = torch.full((len(ids),), -1, dtype=torch.int32, device=tiers.inner_device)
    numbers[torch.from_numpy(keys).to(tiers.inner_device)] = given
    to_device = {name: values.to(tiers.inner_device) for name, values in held.slots.items()} if slots else {}
    at = numbers[torch.from_numpy(known).to(tiers.inner_device)]
    return tiers.backend.write_rows(state, at, held.weights.to(tiers.inner_device), to_device), numbers, fetched


@dataclass
class Changed:
    """Keys that are not on the device as they are to be below it, and as they were there."""

    tiers: TieredState
    ids: np.ndarray
    tables: np.ndarray
    rows: Rows
    fetched: Fetched

    def __post_init__(self) -> None:
        self._made = self.tiers.made

    def write(self) -> None:
        if len(self.ids):
            self.tiers.lower.write(self.ids, self.tables, self.rows)
            new = counted(self.tiers.spec, self.tables[~self.fetched.found])
            self.tiers.made = self.tiers.made + new

    def take_back(self) -> None:
        """As they were, before anything else happens to the table; whether they were written or not."""
        self.tiers.lock.whole(self._take_back)

    def _take_back(self) -> None:
        known, lower = self.fetched.found, self.tiers.lower
        if known.any():
            lower.write(self.ids[known], self.tables[known], self.fetched.rows)
        if not known.all():
            lower.erase(self.ids[~known], self.tables[~known])
        self.tiers.made = self._made


def changed_aside(
    tiers: TieredState,
    ids: np.ndarray,
    tables: np.ndarray,
    change: Callable[[Any, Tensor], Any],
    *,
    uses: int = 1,
    tick: int | None = None,
) -> Changed:
    """Keys that are not on the device, new ones too: change(table, row numbers) -> table; nothing is written yet.

    It is no use of those that are known; new ones have had so many.
    """
    if not len(ids):
        return Changed(tiers, ids, tables, *_nothing(tiers))
    state, numbers, fetched = table_aside(tiers, ids, tables, insert=True, slots=True)
    marks = _marks(tiers, fetched, uses, tiers.tick if tick is None else tick)
    weights, slots = tiers.backend.read_rows(change(state, numbers), numbers)
    rows = Rows(weights.cpu(), {name: values.cpu() for name, values in slots.items()}, marks)
    return Changed(tiers, ids, tables, rows, fetched)


def _nothing(tiers: TieredState) -> tuple[Rows, Fetched]:
    empty = np.zeros(0, np.int64), np.zeros(0, np.int32)
    fetched = tiers.lower.read(*empty)
    return fetched.rows, fetched


def begin_below(tiers: TieredState, ids: np.ndarray, tables: np.ndarray, tick: int) -> None:
    """New keys that find no place on the device are known from now on, and were not used yet."""
    changed_aside(tiers, ids, tables, lambda state, numbers: state, uses=0, tick=tick).write()


def _marks(tiers: TieredState, fetched: Fetched, uses: int, tick: int) -> np.ndarray:
    count = len(fetched.found)
    marks = new_marks(count, marks_of(tiers.spec))
    marks["used"] = tiers.step
    if marks.dtype == COUNTED:
        marks["uses"] = uses
    marks[fetched.found] = fetched.rows.marks
    scores = np.full(count, -np.inf)
    tiers.policy.enter(scores, np.arange(count), np.where(fetched.found, marks["score"], np.nan), tick)
    marks["score"] = scores
    marks["version"] += 1
    return marks


def slot_elsewhere(tiers: TieredState, name: str, which: np.ndarray) -> Tensor:
    """float32 [n, width]"""
    keys = tiers.elsewhere[0][which], tiers.elsewhere[1][which]
    fetched = tiers.lower.read(*keys)
    spec = next(slot for slot in tiers.slots if slot.name == name)
    values = torch.full((len(which), spec.width), spec.initial)
    values[torch.from_numpy(fetched.found)] = fetched.rows.slots[name]
    return values


def slot_written_elsewhere(tiers: TieredState, name: str, which: np.ndarray, values: Tensor) -> Changed:
    """Keys of the last lookup that are not on the device, with these values."""
    ids, tables = tiers.elsewhere[0][which], tiers.elsewhere[1][which]
    there = values.to(tiers.inner_device)
    return changed_aside(tiers, ids, tables, lambda state, rows: tiers.backend.write_slot(state, name, rows, there))
