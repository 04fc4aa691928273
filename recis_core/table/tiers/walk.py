"""All rows of a tiered table in parts, read where they are.

Sizes: n rows of a part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from recis_core.table.tiers.device_tier import DeviceTier
    from recis_core.table.tiers.lower_tiers import LowerTiers
    from recis_core.table.tiers.turn import Turn


def walk(lock: Turn, device: DeviceTier, lower: LowerTiers, ordinal: int, most: int) -> Iterator[tuple[Tensor, Tensor]]:
    """ids int64 [n] and weights [n, D] of a logical table, n ≤ most: rows on the device first, then in host memory, then on
    disk. No row moves, and none may: `TieredState.layout` shows whether one did.
    """
    for beg in range(0, device.index.rows, most):
        with lock:
            rows = _on_device(device, ordinal, slice(beg, beg + most))
        yield rows
    below = lower.scan(most)
    while True:
        with lock:
            part = _below(device, ordinal, below)
        if part is None:
            return
        yield part


def _on_device(device: DeviceTier, ordinal: int, numbers: slice) -> tuple[Tensor, Tensor]:
    at = device.index.at
    rows = numbers.start + np.flatnonzero(at["here"][numbers] & (at["tables"][numbers] == ordinal))
    rows = rows[device.is_known(rows)]
    return torch.from_numpy(at["ids"][rows]), device.read(rows).weights


def _below(device: DeviceTier, ordinal: int, below: Iterator) -> tuple[Tensor, Tensor] | None:
    part = next(below, None)
    if part is None:
        return None
    ids, tables, rows = part
    only = np.flatnonzero((tables == ordinal) & (device.find_known(ids, tables) < 0))
    return torch.from_numpy(ids[only]), rows.weights[torch.from_numpy(only)]
