"""The rows of largest norm.

Sizes: U rows, D dim.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import prange
from torch import Tensor

from recis_core.backends.encoded_rows import check_select
from recis_core.backends.numba_backend.compiled import compiled, compiled_parallel, inlined

F32 = np.float32
HIGH_HALF = np.uint32(0xFFFFF000)  # keeps 12 of a float32's 24 significant bits
LEAST, ZERO, TWO, INFINITE = F32(2.0**-63), F32(0), F32(2), F32(np.inf)
BLOCK = 64


def select_rows(values: Tensor, k: int) -> Tensor:
    check_select(values, k)
    norms = np.empty(len(values), np.float32)
    measure_rows(values.detach().contiguous().numpy(), norms)
    return torch.from_numpy(np.sort(np.argsort(-norms, kind="stable")[:k]))


@compiled_parallel
def measure_rows(values, norms):  # type: ignore[no-untyped-def]
    """Squared norms; inf for what is not finite."""
    for block in prange((len(values) + BLOCK - 1) // BLOCK):
        size = 1
        while size < values.shape[1]:
            size *= 2
        part = np.zeros(size, np.float32)
        for u in range(block * BLOCK, min(block * BLOCK + BLOCK, len(values))):
            norms[u] = measure(values[u], part)


@compiled
def measure(row, part):  # type: ignore[no-untyped-def]
    """Half added to half, the order that every backend keeps. part: scratch of the least power of two ≥ D."""
    size = len(part)
    for d in range(len(row)):
        part[d] = square(row[d])
    part[len(row) :] = 0
    while size > 1:
        size //= 2
        for d in range(size):
            part[d] = F32(part[d] + part[size + d])
    return part[0] if np.isfinite(part[0]) else INFINITE


@inlined
def square(x):  # type: ignore[no-untyped-def]
    """Of two halves of 12 bits, so that each product is exact."""
    high = np.uint32(F32(x).view(np.uint32) & HIGH_HALF).view(np.float32)
    low = F32(x - high)
    low = ZERO if abs(low) < LEAST else low
    high = ZERO if abs(high) < LEAST else high
    return F32(F32(high * high) + F32(F32(F32(TWO * high) * low) + F32(low * low)))
