"""A whole call: partition, lookup, gather and pool; and its backward.

Sizes: N ids, U unique keys, D dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recis_core.backends.records import Evicted, LookupCall, Partition, Request
from recis_core.backends.rows_now import NO_ROWS
from recis_core.backends.spec import Clock, LookupMode
from recis_core.backends.torch_backend.gather import gather
from recis_core.backends.torch_backend.gradient import KeyedGradient, known
from recis_core.backends.torch_backend.lookup import lookup
from recis_core.backends.torch_backend.partition import partition
from recis_core.backends.torch_backend.pool import Terms, bags, grad_terms, pool, sum_by_row, weights_grad
from recis_core.backends.torch_backend.state import TableState, changing
from recis_core.backends.whole import Undo


@dataclass(frozen=True)
class Saved:
    """What one forward keeps: keys and row numbers; row values only where weights need gradients."""

    requests: tuple[Request, ...]
    keys: Partition
    rows: Tensor  # int32 [U]
    values: Tensor | None  # float32 [U, D]
    weights_need_grad: tuple[bool, ...]
    dim: int
    mode: LookupMode


def embed(
    state: TableState, call: LookupCall, *, mode: LookupMode, clock: Clock, weights_need_grad: tuple[bool, ...]
) -> tuple[TableState, list[Tensor], Saved, Evicted | None]:
    with changing(state, NO_ROWS) as undo:
        done = _embed(state, undo, call, mode, clock, weights_need_grad)
    return state, *done


def _embed(
    state: TableState, undo: Undo, call: LookupCall, mode: LookupMode, clock: Clock, weights_need_grad: tuple[bool, ...]
) -> tuple[list[Tensor], Saved, Evicted | None]:
    keys = partition(state, call.ids, tables_of(call))
    uids = state.uids(keys.tables)
    rows, evicted = lookup(state, undo, keys.ids, uids, mode=mode, clock=clock, incoming=len(call.ids))
    values = gather(state, rows, keys.ids, keys.tables, mode.unknown)
    outputs = [
        pool(values, inverse, r.offsets, r.weights, combiner=r.combiner, tile_len=r.tile_len)
        for r, inverse in zip(call.requests, runs(call.requests, keys.inverse), strict=True)
    ]
    kept = values if any(weights_need_grad) else None
    return outputs, Saved(call.requests, keys, rows, kept, weights_need_grad, state.spec.dim, mode), evicted


def tables_of(call: LookupCall) -> Tensor:
    """The ordinal of each id, int32 [N]."""
    ordinals = torch.tensor(call.ordinals, dtype=torch.int32, device="cpu")
    lengths = torch.tensor(call.lengths, dtype=torch.int64, device="cpu")
    return torch.repeat_interleave(ordinals, lengths).to(call.ids.device)


def runs(requests: tuple[Request, ...], per_id: Tensor) -> tuple[Tensor, ...]:
    """Cut an [N] tensor into the requests' runs."""
    return per_id.split([int(r.offsets[-1]) for r in requests])


def embed_grad(saved: Saved, grads: list[Tensor | None]) -> tuple[KeyedGradient | None, list[Tensor | None]]:
    each = [
        _request_grad(saved, r, inverse, grad, need)
        for r, inverse, grad, need in zip(
            saved.requests, runs(saved.requests, saved.keys.inverse), grads, saved.weights_need_grad, strict=True
        )
    ]
    if not saved.mode.learns:
        return None, [w for _, w in each]
    values = sum_by_row(_joined([terms for terms, _ in each]), saved.keys.inverse, len(saved.rows))
    keys = saved.keys
    gradient = KeyedGradient(keys.ids, keys.tables, saved.rows, values, keys.counts)
    return gradient if saved.mode.insert else known(gradient), [w for _, w in each]


def _request_grad(
    saved: Saved, r: Request, inverse: Tensor, grad: Tensor | None, need: bool
) -> tuple[Terms, Tensor | None]:
    b = bags(r.offsets, r.weights, r.combiner)
    if grad is None:
        nothing = Terms(b.weights.new_zeros(1, saved.dim), torch.zeros_like(b.bag), torch.zeros_like(b.weights))
        return nothing, torch.zeros_like(b.weights) if need else None
    terms = grad_terms(grad, b, r.combiner, r.tile_len, saved.dim)
    if not need or saved.values is None:
        return terms, None
    return terms, weights_grad(grad, saved.values, inverse, b, terms, r.combiner)


def _joined(terms: list[Terms]) -> Terms:
    """One run of occurrences from several requests: sources shift past the vectors before them."""
    if len(terms) == 1:
        return terms[0]
    starts = [0]
    for t in terms:
        starts.append(starts[-1] + len(t.vectors))
    return Terms(
        torch.cat([t.vectors for t in terms]),
        torch.cat([t.source + start for t, start in zip(terms, starts, strict=False)]),
        torch.cat([t.scale for t in terms]),
    )
