"""Keys of the two small tables that the machine of tiers trains, and what a row of theirs begins with.

Sizes: D dim.
"""

from __future__ import annotations

import numpy as np
import torch

from recis_core.backends import TableSpec
from recis_core.backends.initial_values import Distribution, initial_values
from recis_core.backends.records import LookupCall, Request

D = 2
UIDS = (7, 3)
SPEC = TableSpec(D, UIDS, rows=8, seed=5, distribution=Distribution("normal", 0.0, 1.0))

Key = tuple[int, int]  # (ordinal, id)


def call_of(keys: list[Key]) -> LookupCall:
    """A row for each occurrence, the first table's keys first."""
    keys = sorted(keys, key=lambda key: key[0])
    ids = torch.tensor([i * 2**40 for _, i in keys], dtype=torch.int64)
    lengths = tuple(sum(t == table for t, _ in keys) for table in range(2))
    return LookupCall(ids, lengths, (0, 1), (Request("none", torch.tensor([0, len(keys)])),))


def arrays(keys: list[Key]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor([i * 2**40 for _, i in keys], dtype=torch.int64)
    return ids, torch.tensor([t for t, _ in keys], dtype=torch.int32)


def initial(key: Key) -> np.ndarray:
    ids, tables = (x.numpy() for x in arrays([key]))
    return initial_values(SPEC.distribution, SPEC.seed, np.array(UIDS, np.uint32)[tables], ids, D)[0]
