"""A whole call: partition, find or insert, and pool straight from the table; and its backward.

Sizes: N ids, U unique keys, B bags, D dim, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recis_core.backends.numba_backend.gather import gather
from recis_core.backends.numba_backend.gradient import KeyedGradient, known
from recis_core.backends.numba_backend.lookup import lookup
from recis_core.backends.numba_backend.partition import Unique, unique_keys
from recis_core.backends.numba_backend.pool import code_of, offsets_of, pool_rows, tiles, weights_of
from recis_core.backends.numba_backend.pool_grad import vectors_of, weights_grad
from recis_core.backends.numba_backend.segment_sum import add_occurrences, empty_occurrences, sum_by_key
from recis_core.backends.numba_backend.state import TableState
from recis_core.backends.records import Evicted, LookupCall, Request
from recis_core.backends.rows_now import NO_ROWS
from recis_core.backends.spec import Clock, LookupMode
from recis_core.backends.whole import whole


@dataclass(frozen=True)
class Run:
    """A request as arrays, and its range of the call's ids."""

    combiner: str
    tile_len: int | None
    beg: int
    end: int
    offsets: np.ndarray  # int64 [B + 1]
    weights: np.ndarray  # float32 [N], or [0] for ones


@dataclass(frozen=True)
class Saved:
    """What one forward keeps: keys and row numbers; row values only where weights need gradients."""

    runs: tuple[Run, ...]
    keys: Unique
    rows: np.ndarray  # int32 [U]
    values: np.ndarray | None  # float32 [U, D]
    weights_need_grad: tuple[bool, ...]
    dim: int
    mode: LookupMode


def embed(
    state: TableState, call: LookupCall, *, mode: LookupMode, clock: Clock, weights_need_grad: tuple[bool, ...]
) -> tuple[TableState, list[Tensor], Saved, Evicted | None]:
    ids = call.ids.contiguous().numpy()
    keys = unique_keys(ids, np.array(call.lengths, np.int64), np.array(call.ordinals, np.int32))
    with whole(state, NO_ROWS) as undo:
        rows, evicted = lookup(state, undo, keys.ids, keys.tables, mode=mode, clock=clock, incoming=len(ids))
        outputs, saved = embed_rows(state, call, keys, rows, mode, weights_need_grad)
    return state, outputs, saved, evicted


def embed_rows(
    state: TableState,
    call: LookupCall,
    keys: Unique,
    rows: np.ndarray,
    mode: LookupMode,
    weights_need_grad: tuple[bool, ...],
    values: np.ndarray | None = None,
) -> tuple[list[Tensor], Saved]:
    """The rest of a call after its lookup; rows: int32 [U] of its keys, -1 for unknown.

    values: float32 [U, D], where rows are positions in them instead of row numbers of the table.
    """
    runs = runs_of(call)
    reads_initial = not mode.insert and mode.unknown == "initial"
    table, numbers = state.weights if values is None else values, rows
    if values is None and (reads_initial or any(weights_need_grad)):
        values = gather(state, rows, keys.ids, keys.tables, mode.unknown)
    if reads_initial:
        table, numbers = values, np.arange(len(rows), dtype=np.int32)
    outputs = [
        pool_rows(table, numbers, keys.inverse[r.beg : r.end], r.offsets, r.weights, r.combiner, r.tile_len)
        for r in runs
    ]
    kept = values if any(weights_need_grad) else None
    return outputs, Saved(runs, keys, rows, kept, weights_need_grad, state.spec.dim, mode)


def runs_of(call: LookupCall) -> tuple[Run, ...]:
    """The requests cut out of the ids, checked to cover them."""
    if sum(call.lengths) != len(call.ids):
        raise ValueError(f"lengths must sum to len(ids) = {len(call.ids)}; got {sum(call.lengths)}.")
    runs, beg = [], 0
    for request in call.requests:
        runs.append(_run(request, beg))
        beg = runs[-1].end
    if beg != len(call.ids):
        raise ValueError(f"requests must cover len(ids) = {len(call.ids)} ids; got {beg}.")
    return tuple(runs)


def _run(request: Request, beg: int) -> Run:
    offsets = offsets_of(request.offsets)
    count = int(offsets[-1])
    return Run(request.combiner, request.tile_len, beg, beg + count, offsets, weights_of(request.weights, count))


def embed_grad(saved: Saved, grads: list[Tensor | None]) -> tuple[KeyedGradient | None, list[Tensor | None]]:
    vectors = [None if grad is None else vectors_of(grad, saved.dim) for grad in grads]
    to_weights = [
        _weights_grad(saved, run, of_run) if need else None
        for run, of_run, need in zip(saved.runs, vectors, saved.weights_need_grad, strict=True)
    ]
    if not saved.mode.learns:
        return None, to_weights
    keys = saved.keys
    values, squares = _sum(saved, vectors)
    gradient = KeyedGradient(keys.ids, keys.tables, saved.rows, values, keys.counts, squares)
    return gradient if saved.mode.insert else known(gradient), to_weights


def _weights_grad(saved: Saved, run: Run, vectors: np.ndarray | None) -> Tensor:
    if vectors is None or saved.values is None:
        return torch.zeros(run.end - run.beg, dtype=torch.float32, device="cpu")
    inverse = saved.keys.inverse[run.beg : run.end]
    return weights_grad(vectors, saved.values, inverse, run.offsets, run.weights, code_of(run.combiner), run.tile_len)


def _sum(saved: Saved, vectors: list[np.ndarray | None]) -> tuple[np.ndarray, float]:
    """The requests' gradients summed by unique key, occurrences in the call's order; and the sum of their squares."""
    keys = saved.keys
    occurrences = empty_occurrences(keys.counts, len(keys.inverse))
    base = 0
    for run, of_run in zip(saved.runs, vectors, strict=True):
        code = code_of(run.combiner)
        add_occurrences(
            keys.inverse[run.beg : run.end], run.offsets, run.weights, code, tiles(code, run.tile_len),
            -1 if of_run is None else base, occurrences.cursor, occurrences.source, occurrences.scale,
        )  # fmt: skip
        base += 0 if of_run is None else len(of_run)
    present = [v for v in vectors if v is not None] or [np.zeros((1, saved.dim), np.float32)]
    return sum_by_key(present[0] if len(present) == 1 else np.concatenate(present), occurrences)
