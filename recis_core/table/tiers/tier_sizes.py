"""How many rows each tier of a table holds: by bytes, of which tables may share, by number, or by a share of all rows."""

from __future__ import annotations

import torch

from recis_core.backends import SlotSpec, TableSpec
from recis_core.options.cache_config import CacheConfig, rows_within

# Of a row, about: its key, its marks, and its share of the index's places.
DEVICE_INDEX_BYTES, HOST_INDEX_BYTES = 80, 52
NOTICED = 1.25  # times its size that a device must be too small by before it grows with the table


def device_row_bytes(spec: TableSpec, slots: tuple[SlotSpec, ...]) -> int:
    """Of one row on the device, slots and index included."""
    width = spec.dim * getattr(torch, spec.dtype).itemsize
    return width + sum(4 * slot.width for slot in slots) + DEVICE_INDEX_BYTES


def device_rows(config: CacheConfig, row_bytes: int, portion: float, table_rows: int) -> int:
    """portion: of the config's bytes. table_rows: in all tiers.

    Raises:
      ValueError: device_bytes, or the portion of them, hold no row.
    """
    size = _part(config.device_bytes, portion)
    rows = rows_within(size, config.device_rows, row_bytes, table_rows)
    if not rows:
        raise ValueError(
            f"device_bytes must hold at least one row of {row_bytes} bytes, slots and index included; got {size}."
        )
    return rows


def host_rows(config: CacheConfig, row_bytes: int, portion: float, table_rows: int) -> int | None:
    """As `device_rows`, of rows in host memory; None for no bound. row_bytes: without the index."""
    size = _part(config.host_bytes, portion)
    return rows_within(size, config.host_rows, row_bytes + HOST_INDEX_BYTES, table_rows)


def least_portion(config: CacheConfig, row_bytes: int) -> float:
    """Of the config's bytes: what holds one row on the device."""
    return 0.0 if config.device_bytes is None else (row_bytes + 1) / config.device_bytes


def _part(size: int | None, portion: float) -> int | None:
    return None if size is None else int(size * portion)
