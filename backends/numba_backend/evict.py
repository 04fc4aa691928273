"""What victims held, copied out before their rows pass on.

Sizes: E victims of a chunk, D dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from recis_core.backends.numba_backend.key_order import key_order
from recis_core.backends.numba_backend.state import TableState, as_weights
from recis_core.backends.records import Evicted


@dataclass(frozen=True)
class Victims:
    ids: np.ndarray  # int64 [E]
    tables: np.ndarray  # int32 [E]
    rows: np.ndarray  # int32 [E]
    weights: np.ndarray  # [E, D] as stored
    slots: dict[str, np.ndarray]  # float32 [E, width]


def drain(state: TableState, entry: np.ndarray) -> Victims:
    old = state.index.entries[entry]
    rows = np.ascontiguousarray(old["row"])
    slots = {name: array[rows] for name, array in state.slots.items()}
    return Victims(
        np.ascontiguousarray(old["id"]), np.ascontiguousarray(old["table"]), rows, state.weights[rows], slots
    )


def join(state: TableState, chunks: list[Victims]) -> Evicted:
    """All chunks' victims, each chunk's in key order."""
    chunks = chunks or [drain(state, np.zeros(0, np.int64))]
    orders = [key_order(v.ids, v.tables, state.ranks) for v in chunks]

    def joined(arrays: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([array[order] for array, order in zip(arrays, orders, strict=True)])

    ids, tables, rows, weights = (joined([getattr(v, n) for v in chunks]) for n in ("ids", "tables", "rows", "weights"))
    slots = {name: torch.from_numpy(joined([v.slots[name] for v in chunks])) for name in state.slots}
    return Evicted(*(torch.from_numpy(x) for x in (ids, tables, rows)), as_weights(weights), slots)
