"""The one autograd node of a forward, for all tables and requests.

Its input is a one-element anchor that requires a gradient, so that backward reaches the node; ids have no gradient.
When the whole backward is done, gradients are pushed to all tables or to none. Backward changes no row and, unless
gradients overlap with backward, sends nothing to other ranks.

If a forward raises, rows inserted until then stay in the tables.

Sizes: N ids, B bags, D dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Variable
from torch.autograd.function import once_differentiable

from recis_core.backends import LookupMode
from recis_core.backends.records import LookupCall
from recis_core.plain_torch import in_plain_torch
from recis_core.table.physical import PhysicalTable
from recis_core.table.table import Table
from recis_core.table.ticket import Ticket
from recis_core.table.unattended import tell
from recis_core.uninterrupted import as_one, uninterrupted


@dataclass
class Job:
    """One forward's lookup in one physical table.

    splits: for each request the number of output rows (bags, or ids under "none") of each feature.
    dtypes: output dtype of each request.
    """

    table: Table
    call: LookupCall
    mode: LookupMode
    trainable: bool
    splits: list[list[int]]
    dtypes: tuple[torch.dtype, ...] = (torch.float32,)


Held = list[tuple[Table, object, Ticket, bool]]  # the last: whether the graph is kept for another backward


def run_jobs(jobs: list[Job]) -> list[list[Tensor]]:
    """For each job the outputs of its features, in order, as outputs of one autograd node."""
    if _recomputing():
        for job in jobs:
            job.mode = LookupMode(job.mode.insert, job.mode.unknown, touch=False)
    weights = [r.weights for job in jobs for r in job.call.requests]
    held: Held = []
    flat = iter(_Lookup.apply(jobs, held, _anchor(jobs, held), *weights))
    return [[next(flat) for split in job.splits for _ in split] for job in jobs]


def _anchor(jobs: list[Job], held: Held) -> Tensor:
    """A leaf for the tables: when `backward()` accumulates the leaf's gradient, tables get theirs.

    `torch.autograd.grad` accumulates none, so tables get none.
    """
    anchor = torch.zeros(1, requires_grad=any(job.trainable and job.mode.insert for job in jobs))
    if anchor.requires_grad:
        anchor.register_post_accumulate_grad_hook(lambda _: _at_the_end(held))
    return anchor


def _at_the_end(held: Held) -> None:
    """Push after the whole backward, so that a backward that raises leaves no gradient; with overlap push and send now."""
    if held and (exchange := held[0][0].exchange) is not None and exchange.overlap:
        with uninterrupted():
            _push(held, torch._C._current_graph_task_id())
            exchange.pushed()
    else:
        Variable._execution_engine.queue_callback(partial(_push, held, torch._C._current_graph_task_id()))


@in_plain_torch
@as_one
def _push(held: Held, backward: int) -> None:
    before = [(table, table.held) for table, _, _, _ in held]
    try:
        for table, gradient, ticket, _ in held:
            table.push(gradient, ticket)
    except BaseException:
        for table, pushed in reversed(before):
            table.held = pushed
        raise
    for _, _, ticket, kept in held:
        ticket.waits = kept
    forgotten = [table for table, _, ticket, _ in held if table.forgotten(ticket, backward)]
    held.clear()
    tell(forgotten)


def _recomputing() -> bool:
    """Whether this forward runs inside a backward: activation checkpointing, whose second lookup must not count."""
    return torch._C._current_graph_task_id() != -1


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, jobs: list[Job], held: Held, anchor: Tensor, *weights: Tensor | None) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        need = iter([w is not None and w.requires_grad for w in weights])
        ctx.held, ctx.kept, outputs, still = held, [], [], []
        needs = [tuple(next(need) for _ in job.call.requests) for job in jobs]
        for job, need_one, (pooled, saved, ticket) in zip(jobs, needs, _embedded(jobs, needs), strict=True):
            trains = job.trainable and job.mode.insert
            ctx.kept.append((job.table, saved, ticket, job.splits, trains))
            outputs += (mine := _per_feature(job, pooled))
            still += [] if trains or any(need_one) else mine
        ctx.mark_non_differentiable(*still)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    @in_plain_torch
    @as_one
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        flat, weight_grads = iter(grads), []
        graph_kept = torch._C._autograd._get_current_graph_task_keep_graph()
        ctx.held.clear()
        for table, saved, ticket, splits, trains in ctx.kept:
            pooled = [_joined([next(flat) for _ in split], split) for split in splits]
            gradient, of_weights = table.embed_grad(saved, pooled)
            if trains:
                ctx.held.append((table, gradient, ticket, graph_kept))
            elif not graph_kept:
                ticket.waits = False
            weight_grads += of_weights
        return None, None, torch.zeros(1), *weight_grads


def _embedded(jobs: list[Job], needs: list[tuple[bool, ...]]) -> list[tuple[list[Tensor], object, Ticket]]:
    """Table by table; with several ranks all tables in one exchange."""
    if jobs and jobs[0].table.exchange is not None:
        return jobs[0].table.exchange.embed(jobs, needs)
    embedded: list[tuple[list[Tensor], object, Ticket]] = []
    try:
        for job, need in zip(jobs, needs, strict=True):
            embedded.append(cast(PhysicalTable, job.table).embed(job.call, job.mode, need))
    except BaseException:
        for _, _, ticket in embedded:
            ticket.waits = False
        raise
    return embedded


def _per_feature(job: Job, pooled: list[Tensor]) -> list[Tensor]:
    """Output rows of each feature. They share the request's memory; autograd does not treat them as views.

    With views autograd would refuse in-place operations on this node's outputs.
    """
    return [
        rows
        for out, split, dtype in zip(pooled, job.splits, job.dtypes, strict=True)
        for rows in torch.unsafe_split_with_sizes(out.to(dtype), split)
    ]


def _joined(grads: list[Tensor | None], split: list[int]) -> Tensor | None:
    """One request's gradient, joined from its features'; a missing one counts as zeros."""
    given = [g for g in grads if g is not None]
    if not given:
        return None
    if len(grads) == 1:
        return given[0].contiguous()
    like = given[0]
    parts = [like.new_zeros(n, like.shape[1]) if g is None else g for g, n in zip(grads, split, strict=True)]
    return torch.cat(parts)
