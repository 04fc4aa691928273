"""Sums of vectors by unique key in the contract's order: chunks of SUM_CHUNK occurrences, then the chunks in order.

Occurrences are first sorted by key, stably, as (source, scale) pairs; then every row is summed by one thread, except
rows of more than a chunk, whose chunks are summed apart: a hot id must not be a straggler.

Sizes: N occurrences, U unique keys, V vectors, D dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import prange

from recis_core.backends import placement
from recis_core.backends.numba_backend.compiled import compiled, compiled_parallel, inlined, prefetch
from recis_core.backends.numba_backend.lanes import LANES, add_squares, load, spread, store
from recis_core.backends.numba_backend.pool import NONE, TILE, inverse_divisor
from recis_core.backends.numba_backend.scratch import columns, empty

CHUNK = placement.SUM_CHUNK
BLOCKS = 64  # of rows, of about equal work
AHEAD = 8  # occurrences between a vector's prefetch and its use


@dataclass(frozen=True)
class Occurrences:
    """Sorted by key: occurrence j adds scale[j] · vectors[source[j]]; a source of -1 adds nothing."""

    starts: np.ndarray  # int64 [U + 1]
    source: np.ndarray  # int32 [N]
    scale: np.ndarray  # float32 [N]
    cursor: np.ndarray  # int64 [U], where each key's next occurrence goes


def empty_occurrences(counts: np.ndarray, N: int) -> Occurrences:
    starts, cursor = empty(len(counts) + 1, np.int64), empty(len(counts), np.int64)
    _add_up(counts, starts, cursor)
    return Occurrences(starts, *columns(N, np.int32, np.float32), cursor)


@compiled
def _add_up(counts, starts, cursor):  # type: ignore[no-untyped-def]
    starts[0] = 0
    for u in range(len(counts)):
        cursor[u] = starts[u]
        starts[u + 1] = starts[u] + counts[u]


@compiled
def add_occurrences(inverse, offsets, weights, code, tile_len, base, cursor, source, scale):  # type: ignore[no-untyped-def]
    """One request's occurrences, in order. base: its first vector, or -1 where it has no gradient."""
    weighted = len(weights) > 0
    for b in range(len(offsets) - 1):
        beg, end = offsets[b], offsets[b + 1]
        lift, by = inverse_divisor(weights, beg, end, code)
        for i in range(beg, end):
            j = cursor[inverse[i]]
            cursor[inverse[i]] = j + 1
            source[j] = _source_of(i, b, i - beg, by, code, tile_len, base)
            scale[j] = weights[i] * lift * by if weighted else by


@inlined
def _source_of(i, b, position, by, code, tile_len, base):  # type: ignore[no-untyped-def]
    if base < 0 or by == 0 or (code == TILE and position >= tile_len):
        return np.int32(-1)
    if code == NONE:
        return np.int32(base + i)
    return np.int32(base + (b * tile_len + position if code == TILE else b))


def sum_by_key(vectors: np.ndarray, o: Occurrences) -> tuple[np.ndarray, float]:
    """The sums, float32 [U, D], and Σ sums² over all of them, in the same pass."""
    sums = empty((len(o.starts) - 1, vectors.shape[1]), np.float32)
    bounds, hot, chunks = _plan(o.starts)
    partials = np.empty((chunks[-1], vectors.shape[1]), np.float32)
    squares = np.zeros((BLOCKS + 1, -(-vectors.shape[1] // LANES) * LANES))
    _sum_all(vectors, o.starts, o.source, o.scale, bounds, hot, chunks, partials, sums, squares)
    _join_partials(partials, hot, chunks, sums, squares)
    return sums, float(squares.sum())


@compiled
def _plan(starts):  # type: ignore[no-untyped-def]
    """(row where each of BLOCKS begins; rows of more than a chunk; where their chunks start among all such chunks)."""
    U = len(starts) - 1
    bounds = np.full(BLOCKS + 1, U, np.int64)
    hot, chunks = np.empty(starts[U] // CHUNK, np.int64), np.zeros(starts[U] // CHUNK + 1, np.int64)
    count = 0
    for u in range(U):
        if starts[u + 1] - starts[u] > CHUNK:
            hot[count] = u
            chunks[count + 1] = chunks[count] + (starts[u + 1] - starts[u] + CHUNK - 1) // CHUNK
            count += 1
    _share_out(starts, bounds)
    return bounds, hot[:count].copy(), chunks[: count + 1].copy()


@compiled
def _share_out(starts, bounds):  # type: ignore[no-untyped-def]
    """Blocks of equal work: a row costs its occurrences and one more; rows of more than a chunk are summed apart."""
    U, total, done, block = len(starts) - 1, 0, 0, 0
    for u in range(U):
        total += _work(starts[u + 1] - starts[u])
    for u in range(U):
        while done * BLOCKS >= block * total and block < BLOCKS:
            bounds[block] = u
            block += 1
        done += _work(starts[u + 1] - starts[u])


@inlined
def _work(occurrences):  # type: ignore[no-untyped-def]
    return 1 if occurrences > CHUNK else 1 + occurrences


@compiled_parallel
def _sum_all(vectors, starts, source, scale, bounds, hot, chunks, partials, sums, squares):  # type: ignore[no-untyped-def]
    P, unused = len(partials), np.empty((BLOCKS, squares.shape[1]))
    for block in prange(BLOCKS):
        for item in range(block, P, BLOCKS):
            h = np.searchsorted(chunks, item, side="right") - 1
            _sum_range(
                vectors, starts, source, scale, hot[h], hot[h] + 1, item - chunks[h], partials, item, unused, block
            )
        first, last = bounds[block], bounds[block + 1]
        _sum_range(vectors, starts, source, scale, first, last, -1, sums, first, squares, block)


@compiled
def _sum_range(vectors, starts, source, scale, first, last, chunk, sums, to, squares, block):  # type: ignore[no-untyped-def]
    """Rows first to last into sums from `to` on: chunk number `chunk` of each, or for -1 all of those of one chunk."""
    # One function, without calls that take arrays: each such call counts references, by atomics that slow threads.
    D, N, size, padded = vectors.shape[1], len(source), vectors.shape[1] * 4, squares.shape[1]
    for u in range(first, last):
        beg, end = starts[u], starts[u + 1]
        if chunk < 0 and end - beg > CHUNK:
            continue
        if chunk >= 0:
            beg += chunk * CHUNK
            end = min(beg + CHUNK, end)
        for j in range(beg + AHEAD, min(end + AHEAD, N)):
            for line in range(0, size, 64):
                prefetch(vectors, np.int64(max(source[j], 0)) * size + line)
        for d in range(0, D, LANES):
            total = spread(np.float32(0))
            for j in range(beg, end):
                at = np.int64(source[j])
                if at >= 0:
                    total = total + load(vectors, at * D + d, D - d) * spread(scale[j])
            store(sums, (to + u - first) * D + d, D - d, total)
            add_squares(squares, block * padded + d, total)


@compiled
def _join_partials(partials, hot, chunks, sums, squares):  # type: ignore[no-untyped-def]
    D = partials.shape[1]
    for h in range(len(hot)):
        for d in range(0, D, LANES):
            total = spread(np.float32(0))
            for p in range(chunks[h], chunks[h + 1]):
                total = total + load(partials, p * D + d, D - d)
            store(sums, hot[h] * D + d, D - d, total)
            add_squares(squares, BLOCKS * squares.shape[1] + d, total)
