"""One optimizer step on touched rows, in place. Each row is read and written once: weights, slots, gradient.

Sizes: U touched rows, R rows, D dim, T logical tables, K numbers of a rule.
"""

from __future__ import annotations

import numpy as np
from numba import config, get_thread_id, prange

from backends.numba_backend.compiled import compiled, compiled_parallel, prefetch_row
from backends.numba_backend.gradient import KeyedGradient
from backends.numba_backend.initial_values import fill_words, scratch_lines, store_noisy
from backends.numba_backend.lanes import LANES, load, put, spread, square_root, store, sum_lanes
from backends.numba_backend.scratch import empty
from backends.numba_backend.state import TableState, check_numbers
from backends.spec import RULES, UpdateRule

SGD, ADAM, ADAGRAD, ROWWISE_ADAGRAD = range(4)
KINDS = {"sgd": SGD, "adam": ADAM, "adagrad": ADAGRAD, "rowwise_adagrad": ROWWISE_ADAGRAD}
BLOCK = 256  # rows a thread updates at a time
AHEAD = 16  # rows between a prefetch and its use
NO_SLOT = np.zeros((0, 1), np.float32)


def update(
    state: TableState, g: KeyedGradient, rule: UpdateRule, hyper: np.ndarray, factor: float, t: tuple[int, ...]
) -> None:
    numbers = np.ascontiguousarray(hyper, np.float32)
    if numbers.shape != (len(state.uids), len(RULES[rule.kind])):
        raise ValueError(
            f"hyper of {rule.kind} must be [{len(state.uids)}, {len(RULES[rule.kind])}]; got {list(numbers.shape)}."
        )
    slots = [state.slots[name] for name in rule.slots]
    first, second = (*slots, NO_SLOT, NO_SLOT)[:2]
    seed, steps = np.uint64(state.spec.seed & 0xFFFFFFFFFFFFFFFF), np.array(t, np.int64).astype(np.uint32)
    check_numbers(g.rows, state.weights, *slots)
    # The loop itself takes no memory, so that once it runs it ends.
    fresh, words = _scratch(state.weights)
    _update_all(
        KINDS[rule.kind], len(slots), state.weights, first, second, g.rows, g.tables, g.ids, g.values, numbers,
        np.float32(factor), state.uids, seed, steps, fresh, words,
    )  # fmt: skip


def _scratch(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each thread new weights of a block before they are rounded, and random words of a row."""
    threads, D, rounds = config.NUMBA_NUM_THREADS, weights.shape[1], weights.itemsize < 4
    fresh = empty((threads, BLOCK if rounds else 0, D), np.float32)
    return fresh, scratch_lines(2, (D + 1) // 2 if rounds else 0, np.uint32)


@compiled_parallel
def _update_all(  # type: ignore[no-untyped-def]
    kind, slots, weights, first, second, rows, tables, ids, values, hyper, factor, uids, seed, steps, scratch, words
):  # fmt: skip
    U = len(values)
    exact = weights.itemsize == 4
    for block in prange((U + BLOCK - 1) // BLOCK):
        beg, end = block * BLOCK, min(block * BLOCK + BLOCK, U)
        mine = get_thread_id()
        fresh = scratch[mine]
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
        if not exact:
            _round(beg, end, fresh, weights, rows, tables, ids, uids, seed, steps, words[2 * mine], words[2 * mine + 1])


@compiled
def _round(beg, end, fresh, weights, rows, tables, ids, uids, seed, steps, even, odd):  # type: ignore[no-untyped-def]
    """New weights into bfloat16 storage, stochastically."""
    P = (fresh.shape[1] + 1) // 2
    even, odd = even[:P], odd[:P]
    for u in range(beg, end):
        if rows[u] >= 0:
            fill_words(seed, uids[tables[u]], ids[u], steps[tables[u]], 0, even, odd)
            store_noisy(fresh[u - beg], even, odd, weights, np.int64(rows[u]))


# Each rule is one function without calls that take arrays: such calls count references, by atomics threads fight over.
# New weights go where they belong, or into `fresh` for rounding where storage is narrower. Rows below 0 are left out.


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
    D, by = values.shape[1], spread(factor)
    for u in range(beg, end):
        ahead = max(rows[min(u + AHEAD, end - 1)], 0)
        prefetch_row(weights, ahead)
        prefetch_row(first, ahead)
        prefetch_row(second, ahead)
        row, table = np.int64(rows[u]), tables[u]
        alpha, beta1, one_minus_beta1 = spread(hyper[table, 0]), spread(hyper[table, 1]), spread(hyper[table, 2])
        beta2, one_minus_beta2, eps = spread(hyper[table, 3]), spread(hyper[table, 4]), spread(hyper[table, 5])
        decay = spread(hyper[table, 6])
        for d in range(0, D if row >= 0 else 0, LANES):
            at = row * D + d
            g = load(values, u * D + d, D - d) * by
            m = beta1 * load(first, at, D - d) + one_minus_beta1 * g
            v = beta2 * load(second, at, D - d) + one_minus_beta2 * g * g
            w = decay * load(weights, at, D - d) + alpha * m / (square_root(v) + eps)
            store(first, at, D - d, m)
            store(second, at, D - d, v)
            put(weights, at, fresh, (u - beg) * D + d, D - d, w)


@compiled
def _adagrad(beg, end, weights, total, rows, tables, values, hyper, factor, fresh):  # type: ignore[no-untyped-def]
    D, by = values.shape[1], spread(factor)
    for u in range(beg, end):
        ahead = max(rows[min(u + AHEAD, end - 1)], 0)
        prefetch_row(weights, ahead)
        prefetch_row(total, ahead)
        row, table = np.int64(rows[u]), tables[u]
        lr, weight_decay, eps = spread(hyper[table, 0]), spread(hyper[table, 1]), spread(hyper[table, 2])
        for d in range(0, D if row >= 0 else 0, LANES):
            at = row * D + d
            w = load(weights, at, D - d)
            g = load(values, u * D + d, D - d) * by + weight_decay * w
            s = load(total, at, D - d) + g * g
            store(total, at, D - d, s)
            put(weights, at, fresh, (u - beg) * D + d, D - d, w - lr * g / (square_root(s) + eps))


@compiled
def _rowwise_adagrad(beg, end, weights, total, rows, tables, values, hyper, factor, fresh):  # type: ignore[no-untyped-def]
    D, by = values.shape[1], spread(factor)
    for u in range(beg, end):
        ahead = max(rows[min(u + AHEAD, end - 1)], 0)
        prefetch_row(weights, ahead)
        row, table = np.int64(rows[u]), tables[u]
        lr, weight_decay = spread(hyper[table, 0]), spread(hyper[table, 1])
        squares, last = spread(np.float32(0)), D if row >= 0 else 0
        for d in range(0, last, LANES):
            g = load(values, u * D + d, D - d) * by + weight_decay * load(weights, row * D + d, D - d)
            squares = squares + g * g
        if row >= 0:
            total[row, 0] += sum_lanes(squares) / np.float32(D)
        root = spread(np.sqrt(total[max(row, 0), 0]) + hyper[table, 2])
        for d in range(0, last, LANES):
            w = load(weights, row * D + d, D - d)
            g = load(values, u * D + d, D - d) * by + weight_decay * w
            put(weights, row * D + d, fresh, (u - beg) * D + d, D - d, w - lr * g / root)
