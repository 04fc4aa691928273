"""Dedup of keys.

Sizes: N ids, U unique keys, T logical tables.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.backends.records import Partition
from recis_core.backends.torch_backend.hashing import slices
from recis_core.backends.torch_backend.state import TableState


def partition(state: TableState, ids: Tensor, tables: Tensor) -> Partition:
    """Unique (table, id) keys with inverse, counts and hash slices."""
    unique, inverse = torch.unique(ids, return_inverse=True)
    count = len(state.spec.uids)
    keys, inverse, counts = torch.unique(inverse * count + tables, return_inverse=True, return_counts=True)
    first = unique[keys // count] if len(keys) else ids[:0]
    ordinal = keys % count
    return Partition(
        first,
        ordinal.to(torch.int32),
        inverse.to(torch.int32),
        counts.to(torch.int32),
        slices(first, state.uids(ordinal)).to(torch.int32),
    )
