"""Initial values and rounding noise, bit-equal to backends.initial_values: integers to the end, then one multiply.

Sizes: M new rows, D dim, P pairs of columns.
"""

from __future__ import annotations

import numpy as np
from numba import config, get_thread_id, prange

from recis_core.backends.initial_values import CELLS, HALF, MIN_TAIL, PARITY
from recis_core.backends.numba_backend.compiled import compiled, compiled_parallel, inlined, leading_zeros
from recis_core.backends.numba_backend.scratch import empty
from recis_core.backends.numba_backend.state import TableState

KEY_PARITY = np.uint32(PARITY)
TAIL_BITS = np.uint32(0x7FFFFFFF)
LEAST_TAIL = np.uint32(MIN_TAIL)
NOISE_BITS = np.uint32(0xFFFF)
EXPONENT = np.uint32(0x7F800000)
FRACTION = np.uint32(0x007FFFFF)
QUIET = np.uint32(0x00400000)
BLOCK = 32  # rows a thread fills at a time


@inlined
def turn(x0, x1, r):  # type: ignore[no-untyped-def]
    x0 = np.uint32(x0 + x1)
    return x0, np.uint32(np.uint32(np.uint32(x1 << np.uint32(r)) | np.uint32(x1 >> np.uint32(32 - r))) ^ x0)


@inlined
def four_turns(x0, x1, r0, r1, r2, r3):  # type: ignore[no-untyped-def]
    x0, x1 = turn(x0, x1, r0)
    x0, x1 = turn(x0, x1, r1)
    x0, x1 = turn(x0, x1, r2)
    return turn(x0, x1, r3)


@inlined
def threefry2x32(k0, k1, x0, x1):  # type: ignore[no-untyped-def]
    k2 = np.uint32(k0 ^ k1 ^ KEY_PARITY)
    x0, x1 = np.uint32(x0 + k0), np.uint32(x1 + k1)
    x0, x1 = four_turns(x0, x1, 13, 15, 26, 6)
    x0, x1 = np.uint32(x0 + k1), np.uint32(x1 + k2 + np.uint32(1))
    x0, x1 = four_turns(x0, x1, 17, 29, 16, 24)
    x0, x1 = np.uint32(x0 + k2), np.uint32(x1 + k0 + np.uint32(2))
    x0, x1 = four_turns(x0, x1, 13, 15, 26, 6)
    x0, x1 = np.uint32(x0 + k0), np.uint32(x1 + k1 + np.uint32(3))
    x0, x1 = four_turns(x0, x1, 17, 29, 16, 24)
    x0, x1 = np.uint32(x0 + k1), np.uint32(x1 + k2 + np.uint32(4))
    x0, x1 = four_turns(x0, x1, 13, 15, 26, 6)
    return np.uint32(x0 + k2), np.uint32(x1 + k0 + np.uint32(5))


@compiled
def fill_words(seed, uid, id_, counter, first, even, odd):  # type: ignore[no-untyped-def]
    """Random words of one key, uint32 [P]: of pair first + p the even column's in even[p], the odd one's in odd[p]."""
    high, low = np.uint32(seed >> np.uint64(32)), np.uint32(seed)
    k0, k1 = threefry2x32(high, low, np.uint32(id_ >> 32), np.uint32(id_))
    k0 = np.uint32(k0 ^ uid)
    for p in range(len(even)):
        even[p], odd[p] = threefry2x32(k0, k1, np.uint32(first + p), counter)


@inlined
def look_up(quantiles, word):  # type: ignore[no-untyped-def]
    tail = max(word & TAIL_BITS, LEAST_TAIL)
    octave = np.int32(leading_zeros(tail)) - np.int32(1)
    inside = np.int32((1 << 30) - 1) - np.int32(np.int32(tail << np.uint32(octave)) - np.int32(1 << 30))
    at = np.int64(word >> np.uint32(31)) * HALF + octave * CELLS + (inside >> 24)
    t = np.int32(inside >> 10) & np.int32(0x3FFF)
    beg = quantiles[at]
    d = np.int32(quantiles[at + 1] - beg)
    return np.int32(beg + ((np.int32((d >> 10) * t) + np.int32(np.int32((d & 1023) * t) >> 10)) >> 4))


@compiled
def initial_row(quantiles, scale, seed, uid, id_, first, even, odd, values):  # type: ignore[no-untyped-def]
    """values: float32 [D]; even, odd: scratch, uint32 [P]."""
    D = len(values)
    fill_words(seed, uid, id_, np.uint32(0), first, even, odd)
    for p in range(len(even)):
        values[2 * p] = np.float32(look_up(quantiles, even[p])) * scale
        if 2 * p + 1 < D:
            values[2 * p + 1] = np.float32(look_up(quantiles, odd[p])) * scale


@compiled
def fill_initial(beg, rows, ids, tables, uids, quantiles, scale, seed, first, weights, even, odd, values):  # type: ignore[no-untyped-def]
    """Initial values of keys beg to beg + BLOCK into weights[rows[i]], float32 or bfloat16 bits."""
    for i in range(beg, min(beg + BLOCK, len(ids))):
        initial_row(quantiles, scale, seed, uids[tables[i]], ids[i], first, even, odd, values)
        store_nearest(values, weights, np.int64(rows[i]))


@compiled_parallel
def fill_all_initial(rows, ids, tables, uids, quantiles, scale, seed, first, weights, words, scratch):  # type: ignore[no-untyped-def]
    D = weights.shape[1]
    P = (D + 1) // 2
    for block in prange((len(ids) + BLOCK - 1) // BLOCK):
        mine = get_thread_id()
        even, odd, values = words[2 * mine, :P], words[2 * mine + 1, :P], scratch[mine, :D]
        fill_initial(block * BLOCK, rows, ids, tables, uids, quantiles, scale, seed, first, weights, even, odd, values)


def scratch_lines(count: int, columns: int, dtype: type) -> np.ndarray:
    """[count · threads, columns or more], for a parallel loop that allocates nothing. No two threads share a cache line."""
    return empty((count * config.NUMBA_NUM_THREADS, -(-columns // 16) * 16), dtype)  # type: ignore[attr-defined]


def write_initial(
    state: TableState, rows: np.ndarray, ids: np.ndarray, tables: np.ndarray, weights: np.ndarray | None = None
) -> None:
    """Initial values of keys into rows of the table, or of `weights`."""
    d = state.spec.distribution
    into = state.weights if weights is None else weights
    seed = np.uint64(state.spec.seed & 0xFFFFFFFFFFFFFFFF)
    D, first = into.shape[1], state.spec.first_column // 2
    scratch = scratch_lines(2, (D + 1) // 2, np.uint32), scratch_lines(1, D, np.float32)
    fill_all_initial(rows, ids, tables, state.uids, state.quantiles, d.scale, seed, first, into, *scratch)


@inlined
def exponent_full(bits):  # type: ignore[no-untyped-def]
    """Whether float32 bits are inf or NaN."""
    return (bits & EXPONENT) == EXPONENT


@inlined
def cut(bits):  # type: ignore[no-untyped-def]
    """The upper half of inf's or NaN's bits; NaN stays NaN even if only its lower half has bits set."""
    quiet = QUIET if bits & FRACTION else np.uint32(0)
    return np.uint16(np.uint32(bits | quiet) >> np.uint32(16))


@compiled
def store_nearest(values, stored, row):  # type: ignore[no-untyped-def]
    """float32 [D] into a row, as float32 or as bfloat16 to nearest even."""
    if stored.itemsize == 4:
        for d in range(len(values)):
            stored[row, d] = values[d]
        return
    for d in range(len(values)):
        bits = np.float32(values[d]).view(np.uint32)
        nearest = np.uint32(bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
        stored[row, d] = cut(bits) if exponent_full(bits) else np.uint16(nearest >> np.uint32(16))


@compiled
def store_noisy(values, even, odd, stored, row):  # type: ignore[no-untyped-def]
    """float32 [D] into a row as bfloat16 bits, rounded by 16 random bits a column."""
    for d in range(len(values)):
        word = odd[d // 2] if d % 2 else even[d // 2]
        bits = np.float32(values[d]).view(np.uint32)
        noisy = np.uint32(bits + np.uint32(word & NOISE_BITS))
        stored[row, d] = cut(bits) if exponent_full(bits) else np.uint16(noisy >> np.uint32(16))
