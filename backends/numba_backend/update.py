"""One optimizer step on touched rows, in place. Each row is read and written once: weights, slots, gradient.

Sizes: U touched rows, R rows, D dim, T logical tables, K numbers of a rule.
"""

from __future__ import annotations

import numpy as np
from numba import config, get_thread_id, prange

from recis_core.backends.numba_backend.compiled import (
    bits_of,
    compiled,
    compiled_parallel,
    float_of,
    inlined,
    prefetch_row,
)
from recis_core.backends.numba_backend.gradient import KeyedGradient
from recis_core.backends.numba_backend.initial_values import fill_words, scratch_lines, store_noisy
from recis_core.backends.numba_backend.lanes import (
    LANES,
    load,
    put,
    spread,
    square_root,
    store,
    sum_lanes,
    zero_as_infinite,
)
from recis_core.backends.numba_backend.scratch import empty
from recis_core.backends.numba_backend.state import TableState, check_highest
from recis_core.backends.rows_now import keep
from recis_core.backends.spec import UpdateRule
from recis_core.backends.step_numbers import step_numbers
from recis_core.backends.whole import settle

SGD, ADAM, ADAGRAD, ROWWISE_ADAGRAD = range(4)
KINDS = {"sgd": SGD, "adam": ADAM, "adagrad": ADAGRAD, "rowwise_adagrad": ROWWISE_ADAGRAD}
BLOCK = 256  # rows a thread updates at a time
AHEAD = 16  # rows between a prefetch and its use
ROOT_POWERS = (66 << 23, 166 << 23)  # bits of 2⁻⁶¹ and 2³⁹: a row's root over twice these is a float32
NO_SLOT = np.zeros((0, 1), np.float32)
NO_SCRATCH = np.zeros((0, 1), np.float32)


def update(
    state: TableState,
    gradient: KeyedGradient,
    rule: UpdateRule,
    *,
    hyper: np.ndarray,
    factor: float,
    t: tuple[int, ...],
) -> TableState:
    settle(state)
    g, step = gradient, step_numbers(rule, hyper, factor, len(state.uids))
    values = g.values if step.ahead is None else _scaled(g.values, step.ahead)
    slots = [state.slots[name] for name in rule.slots]
    first, second = (*slots, NO_SLOT, NO_SLOT)[:2]
    check_highest(g.rows, state.weights, *slots)
    if state.copying:
        keep(state.copying, g.rows)
    work = (
        KINDS[rule.kind], len(slots), state.weights, first, second, g.rows, g.tables, values, step.hyper,
        step.factor,
    )  # fmt: skip
    if state.weights.dtype == np.float32:
        _update_all(*work, NO_SCRATCH)
    else:
        seed, steps = np.uint64(state.spec.seed & 0xFFFFFFFFFFFFFFFF), np.array(t, np.int64).astype(np.uint32)
        _update_and_round(*work, *_scratch(state.spec.dim), g.ids, state.uids, seed, steps)
    return state


def _scaled(values: np.ndarray, by: np.float32) -> np.ndarray:
    with np.errstate(over="ignore", under="ignore"):
        return values * by


def _scratch(D: int) -> tuple[np.ndarray, np.ndarray]:
    """For each thread new weights of a block before they are rounded, and random words of a row.

    The loops allocate nothing, so that no lack of memory breaks one off.
    """
    threads = config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    return empty((threads, BLOCK, D), np.float32), scratch_lines(2, (D + 1) // 2, np.uint32)


@compiled_parallel
def _update_all(kind, slots, weights, first, second, rows, tables, values, hyper, factor, none):  # type: ignore[no-untyped-def]
    U = len(values)
    for block in prange((U + BLOCK - 1) // BLOCK):
        beg, end = block * BLOCK, min(block * BLOCK + BLOCK, U)
        _update_block(beg, end, kind, slots, weights, first, second, rows, tables, values, hyper, factor, none)


@compiled_parallel
def _update_and_round(  # type: ignore[no-untyped-def]
    kind, slots, weights, first, second, rows, tables, values, hyper, factor, scratch, words, ids, uids, seed, steps
):  # fmt: skip
    U = len(values)
    for block in prange((U + BLOCK - 1) // BLOCK):
        beg, end, mine = block * BLOCK, min(block * BLOCK + BLOCK, U), get_thread_id()
        fresh = scratch[mine]
        _update_block(beg, end, kind, slots, weights, first, second, rows, tables, values, hyper, factor, fresh)
        _round(beg, end, fresh, weights, rows, tables, ids, uids, seed, steps, words[2 * mine], words[2 * mine + 1])


@compiled
def _update_block(  # type: ignore[no-untyped-def]
    beg, end, kind, slots, weights, first, second, rows, tables, values, hyper, factor, fresh
):  # fmt: skip
    if kind == ADAM:
        _adam(beg, end, weights, first, second, rows, tables, values, hyper, factor, fresh)
    elif kind == ADAGRAD:
        _adagrad(beg, end, weights, first, rows, tables, values, hyper, factor, fresh)
    elif kind == ROWWISE_ADAGRAD:
        _rowwise_adagrad(beg, end, weights, first, rows, tables, values, hyper, factor, fresh)
    elif slots > 0:
        _momentum(beg, end, weights, first, rows, tables, values, hyper, factor, fresh)
    else:
        _sgd(beg, end, weights, rows, tables, values, hyper, factor, fresh)


@compiled
def _round(beg, end, fresh, weights, rows, tables, ids, uids, seed, steps, even, odd):  # type: ignore[no-untyped-def]
    """New weights into bfloat16 storage, stochastically."""
    P = (fresh.shape[1] + 1) // 2
    even, odd = even[:P], odd[:P]
    for u in range(beg, end):
        if rows[u] >= 0:
            fill_words(seed, uids[tables[u]], ids[u], steps[tables[u]], 0, even, odd)
            store_noisy(fresh[u - beg], even, odd, weights, np.int64(rows[u]))


# Each rule is one function without calls that take arrays: such calls count references, by atomics that slow threads.
# New weights go into the table, or into `fresh` for rounding where storage is bfloat16. Rows below 0 are skipped.


@compiled
def _sgd(beg, end, weights, rows, tables, values, hyper, factor, fresh):  # type: ignore[no-untyped-def]
    D, by = values.shape[1], spread(factor)
    for u in range(beg, end):
        ahead = max(rows[min(u + AHEAD, end - 1)], 0)
        prefetch_row(weights, ahead)
        row, table = np.int64(rows[u]), tables[u]
        lr, weight_decay = spread(hyper[table, 0]), spread(hyper[table, 1])
        for d in range(0, D if row >= 0 else 0, LANES):
            w = load(weights, row * D + d, D - d)
            g = load(values, u * D + d, D - d) * by + weight_decay * w
            put(weights, row * D + d, fresh, (u - beg) * D + d, D - d, w - lr * g)


@compiled
def _momentum(beg, end, weights, velocity, rows, tables, values, hyper, factor, fresh):  # type: ignore[no-untyped-def]
    D, by = values.shape[1], spread(factor)
    for u in range(beg, end):
        ahead = max(rows[min(u + AHEAD, end - 1)], 0)
        prefetch_row(weights, ahead)
        prefetch_row(velocity, ahead)
        row, table = np.int64(rows[u]), tables[u]
        lr, weight_decay, momentum = spread(hyper[table, 0]), spread(hyper[table, 1]), spread(hyper[table, 2])
        for d in range(0, D if row >= 0 else 0, LANES):
            w = load(weights, row * D + d, D - d)
            g = load(values, u * D + d, D - d) * by + weight_decay * w
            v = momentum * load(velocity, row * D + d, D - d) + g
            store(velocity, row * D + d, D - d, v)
            put(weights, row * D + d, fresh, (u - beg) * D + d, D - d, w - lr * v)


@compiled
def _adam(beg, end, weights, first, second, rows, tables, values, hyper, factor, fresh):  # type: ignore[no-untyped-def]
    D, by, table = values.shape[1], spread(factor), -1
    rate = unit = beta1 = one_minus_beta1 = beta2 = one_minus_beta2 = eps = decay = by
    for u in range(beg, end):
        ahead = max(rows[min(u + AHEAD, end - 1)], 0)
        prefetch_row(weights, ahead)
        prefetch_row(first, ahead)
        prefetch_row(second, ahead)
        row = np.int64(rows[u])
        if tables[u] != table:
            table = np.int64(tables[u])
            rate, unit = parts_of(hyper[table, 0])
            beta1, one_minus_beta1 = spread(hyper[table, 1]), spread(hyper[table, 2])
            beta2, one_minus_beta2, eps = spread(hyper[table, 3]), spread(hyper[table, 4]), spread(hyper[table, 5])
            decay = spread(hyper[table, 6])
        for d in range(0, D if row >= 0 else 0, LANES):
            at = row * D + d
            g = load(values, u * D + d, D - d) * by
            m = beta1 * load(first, at, D - d) + one_minus_beta1 * g
            v = beta2 * load(second, at, D - d) + one_minus_beta2 * g * g
            w = decay * load(weights, at, D - d) + rate * m / zero_as_infinite(square_root(v) + eps) * unit
            store(first, at, D - d, m)
            store(second, at, D - d, v)
            put(weights, at, fresh, (u - beg) * D + d, D - d, w)


@compiled
def _adagrad(beg, end, weights, total, rows, tables, values, hyper, factor, fresh):  # type: ignore[no-untyped-def]
    D, by, table = values.shape[1], spread(factor), -1
    rate = unit = weight_decay = eps = by
    for u in range(beg, end):
        ahead = max(rows[min(u + AHEAD, end - 1)], 0)
        prefetch_row(weights, ahead)
        prefetch_row(total, ahead)
        row = np.int64(rows[u])
        if tables[u] != table:
            table = np.int64(tables[u])
            rate, unit = parts_of(hyper[table, 0])
            weight_decay, eps = spread(hyper[table, 1]), spread(hyper[table, 2])
        for d in range(0, D if row >= 0 else 0, LANES):
            at = row * D + d
            w = load(weights, at, D - d)
            g = load(values, u * D + d, D - d) * by + weight_decay * w
            s = load(total, at, D - d) + g * g
            store(total, at, D - d, s)
            step = rate * g / zero_as_infinite(square_root(s) + eps) * unit
            put(weights, at, fresh, (u - beg) * D + d, D - d, w - step)


@compiled
def _rowwise_adagrad(beg, end, weights, total, rows, tables, values, hyper, factor, fresh):  # type: ignore[no-untyped-def]
    D, by, share = values.shape[1], spread(factor), np.float32(1)
    while share * np.float32(D) > 1:  # a power of two, so that squares do not overflow before their mean does
        share *= np.float32(0.5)
    for u in range(beg, end):
        ahead = max(rows[min(u + AHEAD, end - 1)], 0)
        prefetch_row(weights, ahead)
        row, table = np.int64(rows[u]), tables[u]
        power = min(max(bits_of(hyper[table, 0]) & 0x7F800000, ROOT_POWERS[0]), ROOT_POWERS[1])
        unit = float_of(power + 0x800000)
        rate, unit = spread(hyper[table, 0] / unit), spread(unit)
        weight_decay, squares, last = spread(hyper[table, 1]), spread(np.float32(0)), D if row >= 0 else 0
        for d in range(0, last, LANES):
            g = load(values, u * D + d, D - d) * by + weight_decay * load(weights, row * D + d, D - d)
            squares = squares + g * (g * spread(share))
        if row >= 0:
            total[row, 0] += sum_lanes(squares) / (np.float32(D) * share)
        root = zero_as_infinite(spread(np.sqrt(total[max(row, 0), 0]) + hyper[table, 2])) / unit
        for d in range(0, last, LANES):
            w = load(weights, row * D + d, D - d)
            g = load(values, u * D + d, D - d) * by + weight_decay * w
            put(weights, row * D + d, fresh, (u - beg) * D + d, D - d, w - rate * g / root)


@inlined
def parts_of(rate):  # type: ignore[no-untyped-def]
    """(a number in ½ … 1 with the rate's sign, the power of two that is missing): rate · g must not under- or overflow
    before it is divided. The power comes last. 0 for a rate of 0.
    """
    power = bits_of(rate) & 0x7F800000
    unit = float_of(power + 0x800000 if power > 0 else 0)
    return spread(float_of((bits_of(rate) & -0x7F800001) | 0x3F000000)), spread(unit)
