"""How many rows each tier of a table holds: by bytes, of which tables may share, by number, or by a share of all rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from recis_core.options.cache_config import rows_within
from recis_core.table.tiers import staging
from recis_core.table.tiers.device_tier import DeviceTier

if TYPE_CHECKING:
    from recis_core.table.tiers.row_format import RowFormat
    from recis_core.table.tiers.tiered_state import TieredState

# Of a row, about: its key, its marks, and its share of the index's places.
DEVICE_INDEX_BYTES, HOST_INDEX_BYTES = 80, 52
NOTICED = 1.25  # times its size that a device must be too small by before it grows with the table


def row_bytes(state: TieredState) -> int:
    """Of one row on the device, slots and index included."""
    width = state.spec.dim * getattr(torch, state.spec.dtype).itemsize
    return width + sum(4 * slot.width for slot in state.slots) + DEVICE_INDEX_BYTES


def device_rows(state: TieredState, table_rows: int) -> int:
    """
    Raises:
      ValueError: device_bytes, or this table's part of them, hold no row.
    """
    size, each = _part_of(state, state.config.device_bytes), row_bytes(state)
    rows = rows_within(size, state.config.device_rows, each, table_rows)
    if not rows:
        raise ValueError(
            f"device_bytes must hold at least one row of {each} bytes, slots and index included; got {size}."
        )
    return rows


def host_rows(state: TieredState, row_format: RowFormat, table_rows: int) -> int | None:
    """None for no bound."""
    size = _part_of(state, state.config.host_bytes)
    return rows_within(size, state.config.host_rows, row_format.row_bytes + HOST_INDEX_BYTES, table_rows)


def _part_of(state: TieredState, size: int | None) -> int | None:
    return None if size is None else int(size * state.portion)


def least_portion(state: TieredState) -> float:
    """Of the config's bytes: what holds one row on the device."""
    size = state.config.device_bytes
    return 0.0 if size is None else (row_bytes(state) + 1) / size


def take_portion(state: TieredState, portion: float) -> None:
    """Of the config's bytes. A disk that is not open yet stays so."""
    before = state.portion
    try:
        state.portion = portion
        wanted, host = device_rows(state, state.table_rows), host_rows(state, state.host_format, state.table_rows)
        if wanted != state.device.capacity:
            resize(state, wanted)
        state.bound_host(host)
    except BaseException:
        state.portion = before
        raise


def follow_share(state: TieredState) -> None:
    """Tiers whose bound is a share of the table's rows grow with it."""
    if isinstance(state.config.host_rows, str):
        state.bound_host(host_rows(state, state.host_format, state.table_rows))
    if isinstance(state.config.device_rows, str):
        wanted = device_rows(state, state.table_rows)
        if wanted > NOTICED * state.device.capacity:
            resize(state, wanted)


def resize(state: TieredState, capacity: int) -> None:
    """Another number of rows on the device; those that stay are numbered anew."""
    staging.unstage(state)
    old = state.device
    over = len(old) - capacity
    if over > 0:
        state.depart(old.victims(over, state.pinned_from, state.planned_calls.consumed, np.zeros(0, np.int64)))
    rows = old.index.all_rows()
    ids, tables = old.index.keys(rows)
    new = DeviceTier(state.backend, state.spec, state.slots, max(capacity, len(rows)), state.policy)
    mine = new.put_in(ids, tables, np.ones(len(rows), bool), old.read(rows), state.tick)
    for name in new.columns:
        new.index.at[name][mine] = old.index.at[name][rows]
    state.device, state.renumbered = new, state.renumbered + 1  # once it is whole
