"""The gradient of pooling, to rows and to weights.

Sizes: N ids, U unique keys, B bags, D dim.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import prange
from torch import Tensor

from recis_core.backends.numba_backend.compiled import compiled, compiled_parallel, inlined
from recis_core.backends.numba_backend.lanes import LANES, load, spread, sum_lanes
from recis_core.backends.numba_backend.pool import (
    BLOCK,
    MEAN,
    NONE,
    SUM,
    TILE,
    code_of,
    even_bags,
    inverse_divisor,
    offsets_of,
    sum_bags,
    tiles,
    weights_of,
)
from recis_core.backends.numba_backend.segment_sum import add_occurrences, empty_occurrences, sum_by_key


def pool_grad(
    grad: Tensor,
    rows: Tensor,
    inverse: Tensor,
    offsets: Tensor,
    weights: Tensor | None = None,
    *,
    combiner: str = "sum",
    tile_len: int | None = None,
    weights_need_grad: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """See backends.interface.Backend.pool_grad."""
    U, D, of = len(rows), rows.shape[1], inverse.contiguous().numpy()
    code, bounds, scales = code_of(combiner), offsets_of(offsets, len(of)), weights_of(weights, len(of))
    vectors = vectors_of(grad, D)
    occurrences = empty_occurrences(np.bincount(of, minlength=U).astype(np.int32), len(of))
    _, source, scale, cursor = vars(occurrences).values()
    add_occurrences(of, bounds, scales, code, tiles(code, tile_len), 0, cursor, source, scale)
    to_rows = torch.from_numpy(sum_by_key(vectors, occurrences)[0])
    if not weights_need_grad:
        return to_rows, None
    return to_rows, weights_grad(
        vectors, rows.detach().float().contiguous().numpy(), of, bounds, scales, code, tile_len
    )


def vectors_of(grad: Tensor, D: int) -> np.ndarray:
    """An output gradient as float32 vectors of D columns: one a bag, a tile, or an id."""
    return grad.detach().float().contiguous().numpy().reshape(-1, D)


def weights_grad(
    vectors: np.ndarray,
    rows: np.ndarray,
    inverse: np.ndarray,
    offsets: np.ndarray,
    weights: np.ndarray,
    code: int,
    tile_len: int | None,
) -> Tensor:
    """d loss / d weights, float32 [N]. With s = Σ w·e and out = s / n:
    sum e·g; mean (e - out)·g / n; sqrtn e·g / n - w · out·g / n²; a zero divisor gives 0. w and n are lifted.
    """
    to_weights = torch.zeros(len(inverse), dtype=torch.float32, device="cpu")
    offsets = even_bags(len(inverse)) if code == NONE else offsets
    _weights_grad_all(vectors, rows, inverse, offsets, weights, code, tiles(code, tile_len), to_weights.numpy())
    return to_weights


@compiled_parallel
def _weights_grad_all(vectors, rows, inverse, offsets, weights, code, tile_len, to_weights):  # type: ignore[no-untyped-def]
    B, itself = len(offsets) - 1, np.arange(len(rows)).astype(np.int32)
    for block in prange((B + BLOCK - 1) // BLOCK):
        out = np.empty(rows.shape[1], np.float32)  # a bag's output again
        for b in range(block * BLOCK, min(block * BLOCK + BLOCK, B)):
            if code == NONE or code == TILE:
                _laid_grad(vectors, rows, inverse, b, offsets[b], offsets[b + 1], code, tile_len, to_weights)
            else:
                _bag_grad(vectors, rows, itself, inverse, offsets, weights, b, code, out, to_weights)


@compiled
def _laid_grad(vectors, rows, inverse, b, beg, end, code, tile_len, to_weights):  # type: ignore[no-untyped-def]
    D = rows.shape[1]
    for i in range(beg, end):
        if code == NONE:
            to_weights[i] = dot(rows, inverse[i] * D, vectors, i * D, D)
        elif i - beg < tile_len:
            to_weights[i] = dot(rows, inverse[i] * D, vectors, (b * tile_len + i - beg) * D, D)


@compiled
def _bag_grad(vectors, rows, itself, inverse, offsets, weights, b, code, out, to_weights):  # type: ignore[no-untyped-def]
    beg, end, shared, slope = offsets[b], offsets[b + 1], np.float32(0), np.float32(0)
    D = rows.shape[1]
    lift, by = inverse_divisor(weights, beg, end, code)
    if code != SUM:
        sum_bags(b, b + 1, rows, itself, inverse, offsets, weights, code, out, 0)
        shared = dot(out, 0, vectors, b * D, D) * by
    for i in range(beg, end):
        if code != SUM:
            slope = np.float32(1) if code == MEAN else (weights[i] * lift if len(weights) else np.float32(1)) * by
        change = dot(rows, inverse[i] * D, vectors, b * D, D) * by - slope * shared
        to_weights[i] = change * lift if by != 0 else np.float32(0)


@inlined
def dot(x, x_beg, y, y_beg, D):  # type: ignore[no-untyped-def]
    """Of D numbers from a flat position of each on: lanes first, each by itself, then the lanes in order."""
    total = spread(np.float32(0))
    for d in range(0, D, LANES):
        total = total + load(x, x_beg + d, D - d) * load(y, y_beg + d, D - d)
    return sum_lanes(total)
