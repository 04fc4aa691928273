"""What a lookup evicted, copied out before its rows are overwritten.

Sizes: Q new keys (padded), E evicted keys, D dim.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import torch

from recis_core.backends import placement
from recis_core.backends.jax_backend.ladder import rung
from recis_core.backends.jax_backend.programs import Programs
from recis_core.backends.jax_backend.reports import settle
from recis_core.backends.jax_backend.seek import Sought
from recis_core.backends.jax_backend.state import TableState
from recis_core.backends.records import Evicted
from recis_core.bridge.dlpack import to_torch


def drained(programs: Programs, state: TableState, sought: Sought) -> Evicted:
    """Waits for the lookup: the evicted keys are compacted, so their number is needed."""
    settle(state, wait=True)
    evicted: Any = sought.inserted.evicted  # type: ignore[union-attr]
    count = int(evicted.count)
    if count == 0:
        return _evicted(programs, state, np.zeros(0, np.int64), np.zeros(0, np.uint32), np.zeros(0, np.int32))
    lo, hi, uids, rows, by = (np.asarray(x)[:count] for x in (*evicted.keys, evicted.rows, evicted.by))
    ids = ids_of(lo, hi)
    order = np.lexsort((ids, uids, by // placement.CHUNK))  # by (chunk, uid, id)
    return _evicted(programs, state, ids[order], uids[order], rows[order])


def ids_of(lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
    return (hi.astype(np.uint64) << np.uint64(32) | lo).view(np.int64)


def _evicted(programs: Programs, state: TableState, ids: np.ndarray, uids: np.ndarray, rows: np.ndarray) -> Evicted:
    count = len(rows)
    device = torch.device(state.spec.device)
    weights, *slots = read_rows(programs, state, rows)
    return Evicted(
        torch.from_numpy(ids).to(device),
        torch.from_numpy(ordinals_of(state, uids)).to(device),
        torch.from_numpy(rows.astype(np.int32)).to(device),
        to_torch(weights)[:count],
        {name: to_torch(values)[:count] for name, values in zip(state.slots, slots, strict=True)},
    )


def ordinals_of(state: TableState, uids: np.ndarray) -> np.ndarray:
    """uids to ordinals, int32."""
    known = np.asarray(state.spec.uids, np.uint32)
    by_uid = np.argsort(known)
    return by_uid[np.searchsorted(known[by_uid], uids)].astype(np.int32)


def read_rows(programs: Programs, state: TableState, rows: np.ndarray) -> tuple[jax.Array, ...]:
    """Weights and slots of these rows, padded to a rung."""
    padded = np.zeros(rung(len(rows)), np.int32)
    padded[: len(rows)] = rows
    return programs.read_rows((state.weights, *state.slot_arrays), padded)
