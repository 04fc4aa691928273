"""Pooling of rows into bags, straight from the table: reads each occurrence's row, writes each bag once.

Sizes: N ids, U unique keys, B bags, R rows, D dim.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import prange
from torch import Tensor

from recis_core.backends.numba_backend.compiled import bits_of, compiled, compiled_parallel, float_of, inlined, prefetch
from recis_core.backends.numba_backend.lanes import LANES, load, spread, store
from recis_core.backends.numba_backend.scratch import empty

SUM, MEAN, SQRTN, TILE, NONE = range(5)
CODES = {"sum": SUM, "mean": MEAN, "sqrtn": SQRTN, "tile": TILE, "none": NONE}
WIDE = 4 * LANES  # columns summed in one pass over a bag
BLOCK = 128  # bags a thread pools at a time
AHEAD = 16  # occurrences between a row's prefetch and its use
LAID = 16  # rows to a bag of "none", whose own bags do not matter
INFINITE = 0x7F800000  # bits of |weight| from here on are inf or NaN
LEAST = np.float32(2.0**-126)  # the least normal number: a smaller divisor counts as 0
PLAIN_LEAST, PLAIN_MOST = np.float32(2.0**-10), np.float32(2.0**20)  # Σ |weight| of a bag that needs no lift
UNWEIGHTED = np.ones(0, np.float32)


def code_of(combiner: str) -> int:
    if combiner not in CODES:
        raise ValueError(f"combiner must be one of {', '.join(CODES)}; got {combiner!r}.")
    return CODES[combiner]


def offsets_of(offsets: Tensor, count: int | None = None) -> np.ndarray:
    """int64 [B + 1], checked to rise from 0 to `count`, for compiled loops check no index."""
    bounds = np.ascontiguousarray(offsets.numpy(), np.int64)
    count = int(bounds[-1]) if count is None else count
    if bounds[0] != 0 or bounds[-1] != count or _decreases(bounds):
        raise ValueError(
            f"offsets must rise from 0 to the number of ids = {count}; got {bounds[0]} to {bounds[-1]}"
            f"{', falling in between' if _decreases(bounds) else ''}."
        )
    return bounds


@compiled
def _decreases(offsets):  # type: ignore[no-untyped-def]
    falls = 0
    for b in range(len(offsets) - 1):
        falls += offsets[b + 1] < offsets[b]
    return falls > 0


def weights_of(weights: Tensor | None, count: int) -> np.ndarray:
    """float32 [N], or [0] for all ones."""
    if weights is None:
        return UNWEIGHTED
    if len(weights) != count:
        raise ValueError(f"weights must be one an id = {count}; got {len(weights)}.")
    return weights.detach().float().contiguous().numpy()


def pool(
    rows: Tensor,
    inverse: Tensor,
    offsets: Tensor,
    weights: Tensor | None = None,
    *,
    combiner: str = "sum",
    tile_len: int | None = None,
) -> Tensor:
    """See backends.interface.Backend.pool."""
    values = rows.detach().float().contiguous().numpy()
    itself = np.arange(len(values), dtype=np.int32)
    bounds, scales = offsets_of(offsets, len(inverse)), weights_of(weights, len(inverse))
    out = pool_rows(values, itself, inverse.contiguous().numpy(), bounds, scales, combiner, tile_len)
    return out.to(rows.dtype)


def pool_rows(
    table: np.ndarray,
    rows: np.ndarray,
    inverse: np.ndarray,
    offsets: np.ndarray,
    weights: np.ndarray,
    combiner: str,
    tile_len: int | None,
) -> Tensor:
    """Pool table[rows[inverse[i]]], float32 or bfloat16 bits; a row below 0 reads as zeros."""
    code, D = code_of(combiner), table.shape[1]
    offsets = even_bags(len(inverse)) if code == NONE else offsets
    shape = len(inverse) if code == NONE else len(offsets) - 1, tiles(code, tile_len) * D
    out = empty(shape, np.float32)
    _pool_all(table, rows, inverse, offsets, weights, code, out)
    return torch.from_numpy(out)


def even_bags(N: int) -> np.ndarray:
    """Offsets that divide N ids evenly among threads."""
    return np.minimum(np.arange(-(-N // LAID) + 1, dtype=np.int64) * LAID, N)


def tiles(code: int, tile_len: int | None) -> int:
    """Rows side by side in one output."""
    if code != TILE:
        return 1
    if tile_len is None or tile_len < 1:
        raise ValueError(f"combiner='tile' needs tile_len of at least 1; got {tile_len}.")
    return tile_len


@compiled_parallel
def _pool_all(table, rows, inverse, offsets, weights, code, out):  # type: ignore[no-untyped-def]
    B = len(offsets) - 1
    for block in prange((B + BLOCK - 1) // BLOCK):
        first, last = block * BLOCK, min(block * BLOCK + BLOCK, B)
        if code == NONE or code == TILE:
            _lay_bags(first, last, table, rows, inverse, offsets, weights, code, out)
        else:
            sum_bags(first, last, table, rows, inverse, offsets, weights, code, out, first)


@compiled
def _lay_bags(first, last, table, rows, inverse, offsets, weights, code, out):  # type: ignore[no-untyped-def]
    """Write weighted rows one after another, from the first one's place."""
    D, width, weighted = table.shape[1], out.shape[1], len(weights) > 0
    for b in range(first, last):
        beg, to = offsets[b], offsets[b] * D if code == NONE else b * width
        count = offsets[b + 1] - beg if code == NONE else min(offsets[b + 1] - beg, width // D)
        if code == TILE:
            out[b, count * D :] = np.float32(0)
        for i in range(beg, beg + count):
            row, weight = np.int64(rows[inverse[i]]), spread(weights[i] if weighted else np.float32(1))
            for d in range(0, D, LANES):
                columns = spread(np.float32(0))
                if row >= 0:
                    columns = load(table, row * D + d, D - d) * weight
                store(out, to + (i - beg) * D + d, D - d, columns)


@compiled
def sum_bags(first, last, table, rows, inverse, offsets, weights, code, out, start):  # type: ignore[no-untyped-def]
    """out[start + b - first] = Σ weights[i] · table[rows[inverse[i]]] / divisor, summed in order; zeros for divisor 0."""
    # One function, without calls that take arrays: each such call counts references, by atomics that slow threads.
    D, weighted, size = table.shape[1], len(weights) > 0, table.shape[1] * table.itemsize
    of = rows[inverse[offsets[first] : min(offsets[last] + AHEAD, len(inverse))]]
    for b in range(first, last):
        beg, end = offsets[b] - offsets[first], offsets[b + 1] - offsets[first]
        lift, scale = inverse_divisor(weights, offsets[b], offsets[b + 1], code)
        for j in range(beg + AHEAD, min(end + AHEAD, len(of))):
            for line in range(0, size, 64):
                prefetch(table, np.int64(max(of[j], 0)) * size + line)
        wide = D // WIDE * WIDE
        end = end if scale != 0 else beg
        for d in range(0, wide, WIDE):
            t0, t1, t2, t3 = spread(np.float32(0)), spread(np.float32(0)), spread(np.float32(0)), spread(np.float32(0))
            for j in range(beg, end):
                at = np.int64(of[j]) * D + d
                if at >= 0:
                    weight = spread(weights[offsets[first] + j] * lift if weighted else np.float32(1))
                    t0 = t0 + load(table, at, LANES) * weight
                    t1 = t1 + load(table, at + LANES, LANES) * weight
                    t2 = t2 + load(table, at + 2 * LANES, LANES) * weight
                    t3 = t3 + load(table, at + 3 * LANES, LANES) * weight
            to = (start + b - first) * D + d
            store(out, to, LANES, t0 * spread(scale))
            store(out, to + LANES, LANES, t1 * spread(scale))
            store(out, to + 2 * LANES, LANES, t2 * spread(scale))
            store(out, to + 3 * LANES, LANES, t3 * spread(scale))
        for d in range(wide, D, LANES):
            t0 = spread(np.float32(0))
            for j in range(beg, end):
                if of[j] >= 0:
                    weight = spread(weights[offsets[first] + j] * lift if weighted else np.float32(1))
                    t0 = t0 + load(table, np.int64(of[j]) * D + d, D - d) * weight
            store(out, (start + b - first) * D + d, D - d, t0 * spread(scale))


@inlined
def inverse_divisor(weights, beg, end, code):  # type: ignore[no-untyped-def]
    """(lift, 1 / divisor of a bag's weights · lift), 0 where the divisor is 0. See the contract's pool."""
    one = np.float32(1)
    if code != MEAN and code != SQRTN:
        return one, one
    if len(weights) == 0:
        total = np.float32(end - beg)
        return one, reciprocal(total if code == MEAN else np.sqrt(total))
    total, size = np.float32(0), np.float32(0)
    for i in range(beg, end):
        weight = weights[i]
        size += abs(weight)
        total += weight if code == MEAN else weight * weight
    if size == 0 or PLAIN_LEAST <= size <= PLAIN_MOST:  # no weight is so large or small that lifting changes a bit
        return one, reciprocal(total if code == MEAN else np.sqrt(total))
    return lifted_divisor(weights, beg, end, code)


@inlined
def reciprocal(divisor):  # type: ignore[no-untyped-def]
    return np.float32(1) / divisor if abs(divisor) >= LEAST else np.float32(0)


@inlined
def lifted_divisor(weights, beg, end, code):  # type: ignore[no-untyped-def]
    total, top = np.float32(0), 0
    for i in range(beg, end):
        top = max(top, bits_of(weights[i]) & 0x7FFFFFFF)
    lift = float_of((253 - min(max(top >> 23, 1), 252)) << 23)
    for i in range(beg, end):
        weight = weights[i] * lift
        total += weight if code == MEAN else weight * weight
    by = reciprocal(total if code == MEAN else np.sqrt(total))
    return lift, by if top < INFINITE else np.float32(np.nan)
