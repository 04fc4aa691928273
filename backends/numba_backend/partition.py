"""Dedup of keys by one open-addressing pass, unique keys in order of first appearance.

Sizes: N ids, U unique keys, F runs of ids of one table, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recis_core.backends.numba_backend.compiled import compiled
from recis_core.backends.numba_backend.hashing import fill_slices
from recis_core.backends.numba_backend.scratch import columns, empty
from recis_core.backends.numba_backend.state import TableState
from recis_core.backends.records import Partition

SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: high bits of the product depend on all of the id
TABLE_SPREAD = np.uint64(0xC2B2AE3D27D4EB4F)


@dataclass(frozen=True)
class Unique:
    """Key u stands for every i with inverse[i] == u."""

    ids: np.ndarray  # int64 [U]
    tables: np.ndarray  # int32 [U]
    inverse: np.ndarray  # int32 [N]
    counts: np.ndarray  # int32 [U]


def unique_keys(ids: np.ndarray, lengths: np.ndarray, ordinals: np.ndarray) -> Unique:
    """Dedup ids whose tables come in runs: lengths int64 [F], ordinals int32 [F]."""
    N = len(ids)
    out = columns(N, np.int64, np.int32, np.int32, np.int32)
    heads = empty(1 << max(4, (2 * N - 1).bit_length()), np.int32)
    U = _dedup(ids, lengths, ordinals, heads, *out)
    unique, tables, inverse, counts = out
    return Unique(unique[:U], tables[:U], inverse, counts[:U])


def partition(state: TableState, ids: Tensor, tables: Tensor) -> Partition:
    """See backends.interface.Backend.partition."""
    unique = unique_keys(ids.numpy(), np.ones(len(ids), np.int64), tables.numpy())
    slices = np.empty(len(unique.ids), np.int32)
    fill_slices(unique.ids, unique.tables, state.uids, slices)
    arrays = unique.ids, unique.tables, unique.inverse, unique.counts, slices
    return Partition(*(torch.from_numpy(array) for array in arrays))


@compiled
def _dedup(ids, lengths, ordinals, heads, unique, tables, inverse, counts):  # type: ignore[no-untyped-def]
    """Linear probing in `heads`, int32 [H], of unique numbers or -1; U."""
    # Serial on purpose: halves of the hash on two threads took twice as long, by mispredicted branches and by
    # lines of `inverse` that both write.
    U, beg, last = 0, 0, len(heads) - 1
    shift = np.uint64(64 - _bits(len(heads)))
    heads[:] = -1
    for f in range(len(lengths)):
        table = ordinals[f]
        salt = np.uint64(table) * TABLE_SPREAD
        for i in range(beg, beg + lengths[f]):
            id_ = ids[i]
            at = np.int64(((np.uint64(id_) ^ salt ^ (np.uint64(id_) >> np.uint64(32))) * SPREAD) >> shift)
            u = np.int64(heads[at])
            while u >= 0 and (unique[u] != id_ or tables[u] != table):
                at = (at + 1) & last
                u = np.int64(heads[at])
            if u < 0:
                u = U
                heads[at], unique[u], tables[u], counts[u] = u, id_, table, 0
                U += 1
            counts[u] += 1
            inverse[i] = u
        beg += lengths[f]
    return U


@compiled
def _bits(size):  # type: ignore[no-untyped-def]
    """log2 of a power of two."""
    bits = 0
    while (1 << bits) < size:
        bits += 1
    return bits
