"""Going through all rows of a tiered table, some at a time, where they lie.

Sizes: n rows of a part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from recis_core.table.tiers.tiered_state import TieredState


def walk(state: TieredState, ordinal: int, most: int) -> Iterator[tuple[Tensor, Tensor]]:
    """ids int64 [n] and weights [n, D] of a logical table, n ≤ most: rows on the device first, then in host memory, then on
    disk. No row moves, and none may: `state.layout` says whether one did.
    """
    for beg in range(0, state.device.index.rows, most):
        yield _on_device(state, ordinal, slice(beg, beg + most))
    below = state.lower.scan(most)
    while (part := _below(state, ordinal, below)) is not None:
        yield part


def _on_device(state: TieredState, ordinal: int, numbers: slice) -> tuple[Tensor, Tensor]:
    with state.lock:
        at = state.device.index.at
        rows = numbers.start + np.flatnonzero(at["here"][numbers] & (at["tables"][numbers] == ordinal))
        rows = rows[state.device.is_known(rows)]
        return torch.from_numpy(at["ids"][rows]), state.device.read(rows).weights


def _below(state: TieredState, ordinal: int, below: Iterator) -> tuple[Tensor, Tensor] | None:
    with state.lock:
        part = next(below, None)
        if part is None:
            return None
        ids, tables, rows = part
        only = np.flatnonzero((tables == ordinal) & (state.device.find_known(ids, tables) < 0))
    return torch.from_numpy(ids[only]), rows.weights[torch.from_numpy(only)]
