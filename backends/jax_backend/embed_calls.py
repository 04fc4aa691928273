"""One call of `embed` and its backward: torch tensors in, programs run, torch tensors out.

Sizes: N ids, B bags.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import numpy as np
import torch
from torch import Tensor

from recis_core.backends.jax_backend import inputs
from recis_core.backends.jax_backend.drain import drained
from recis_core.backends.jax_backend.embed import Bags, IndexPlan, Kept, Plan, Pooling
from recis_core.backends.jax_backend.gradient import KeyedGradient
from recis_core.backends.jax_backend.programs import Programs
from recis_core.backends.jax_backend.reports import make_room, reported, settle
from recis_core.backends.jax_backend.seek import Manner, Sought
from recis_core.backends.jax_backend.state import TableState
from recis_core.backends.jax_backend.unfinished import begin_new, land, whole
from recis_core.backends.records import Evicted, LookupCall, Request
from recis_core.backends.spec import Clock, LookupMode, TableSpec
from recis_core.bridge.dlpack import to_torch

# Up to so many ids the index half and the rows' half are two programs: a call takes some 20 µs longer, but
# tables of all dims and combiners share the index half, which compiles the longest.
APART = 4096


@dataclass(frozen=True)
class Saved:
    """What one forward keeps: unique keys, their row numbers and the inverse; never the table."""

    plan: Plan
    kept: Kept | None
    bags: tuple[Bags, ...]
    lengths: tuple[int, ...]  # ids of each request
    counts: tuple[int, ...]  # bags of each request
    bag_sizes: tuple[int, ...]
    dim: int
    device: torch.device


def prepare(programs: Programs, state: TableState, mode: LookupMode, incoming: int) -> None:
    if mode.insert:
        make_room(state, programs, incoming)
    else:
        settle(state, wait=False)


def manner_of(spec: TableSpec, mode: LookupMode) -> Manner:
    return Manner(mode.insert, mode.touch, spec.evict and mode.insert, spec.score == "count")


def embed(
    programs: Programs,
    state: TableState,
    call: LookupCall,
    *,
    mode: LookupMode,
    clock: Clock,
    weights_need_grad: tuple[bool, ...],
) -> tuple[TableState, list[Tensor], Saved, Evicted | None]:
    with whole(programs, state):
        prepare(programs, state, mode, len(call.ids))
        lengths = inputs.run_lengths(call)
        counts = tuple(len(r.offsets) - 1 for r in call.requests)
        sizes, bag_sizes = _rungs(state, call, lengths, counts)
        plan = _plan(programs, state, call, mode, sizes, weights_need_grad)
        crossing = inputs.Crossing()
        shapes = zip(call.requests, lengths, sizes, bag_sizes, strict=True)
        bags = tuple(inputs.bags(crossing, r.offsets, r.weights, *sizes_of) for r, *sizes_of in shapes)
        ids = inputs.call_words(crossing, call, lengths, sizes)
        control = inputs.control(call, lengths, sizes, (clock.step, clock.pinned_from))
        state.incoming = len(call.ids) if mode.insert else 0
        done = _run(programs, state, plan, ids, control, bags)
        crossing.done(done.outputs)
        saved = Saved(plan, done.kept, bags, lengths, counts, bag_sizes, state.spec.dim, call.ids.device)
        cut = zip(done.outputs, plan.poolings, lengths, counts, strict=True)
        return state, [_cut(*each) for each in cut], saved, done.evicted


def _rungs(
    state: TableState, call: LookupCall, lengths: tuple[int, ...], counts: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    structure = (len(call.lengths), tuple((r.combiner, r.tile_len, r.weights is None) for r in call.requests))
    sizes = state.ladder.pad(structure, (*lengths, *counts))
    return sizes[: len(lengths)], sizes[len(lengths) :]


def _plan(
    programs: Programs, state: TableState, call: LookupCall, mode: LookupMode, sizes: tuple[int, ...],
    weights_need_grad: tuple[bool, ...],
) -> Plan:  # fmt: skip
    poolings = tuple(map(_pooling, call.requests, sizes, weights_need_grad))
    unknown_initial = not mode.insert and mode.unknown == "initial"
    index_plan = IndexPlan(manner_of(state.spec, mode), sizes, len(call.lengths))
    return Plan(index_plan, poolings, mode.learns, unknown_initial, state.slot_initials, programs.loops)


def _pooling(request: Request, size: int, weights_need_grad: bool) -> Pooling:
    return Pooling(request.combiner, request.tile_len, size, weights_need_grad and request.weights is not None)


class Done(NamedTuple):
    outputs: tuple[jax.Array, ...]
    kept: Kept | None
    evicted: Evicted | None


def _run(
    programs: Programs, state: TableState, plan: Plan, ids: jax.Array, control: np.ndarray, bags: tuple[Bags, ...]
) -> Done:  # fmt: skip
    apart = plan.index_plan.manner.evict or ids.shape[0] <= APART
    return (_run_apart if apart else _run_as_one)(programs, state, plan, ids, control, bags)


def _run_as_one(
    programs: Programs, state: TableState, plan: Plan, ids: jax.Array, control: np.ndarray, bags: tuple[Bags, ...]
) -> Done:  # fmt: skip
    state.landing = tuple(state.slots)
    state.index, state.weights, state.landed, outputs, kept, state.report = programs.embed(
        state.index, state.weights, state.slot_arrays, state.constants, ids, control, bags, plan=plan
    )
    land(state)
    reported(state)
    return Done(outputs, kept, None)


def _run_apart(
    programs: Programs, state: TableState, plan: Plan, ids: jax.Array, control: np.ndarray, bags: tuple[Bags, ...]
) -> Done:  # fmt: skip
    """The index, then the rows. In between, evicted rows are copied out, which waits for their number."""
    state.index, state.sought = programs.seek_call(
        state.index, state.constants, ids, control, index_plan=plan.index_plan
    )
    sought, evicted = begun(programs, state, plan.index_plan.manner)
    outputs, kept = programs.pool_call(state.weights, state.constants, sought, ids, control, bags, plan=plan)
    return Done(outputs, kept, evicted)


def begun(programs: Programs, state: TableState, manner: Manner) -> tuple[Sought, Evicted | None]:
    """Write the new rows' initial values. Returns what pooling needs of the lookup, and what was evicted."""
    sought = state.sought
    reported(state)
    evicted = drained(programs, state, sought) if manner.evict else None
    begin_new(programs, state)
    return sought._replace(new=None, inserted=None), evicted  # type: ignore[union-attr]


def _cut(output: jax.Array, pooling: Pooling, length: int, count: int) -> Tensor:
    return to_torch(output)[: length if pooling.combiner == "none" else count]


def embed_grad(
    programs: Programs, saved: Saved, grads: list[Tensor | None]
) -> tuple[KeyedGradient | None, list[Tensor | None]]:
    plan = saved.plan
    if saved.kept is None:
        return None, [None] * len(grads)
    crossing = inputs.Crossing()
    arrays = tuple(_padded_grad(crossing, saved, r, grad) for r, grad in enumerate(grads))
    # Parts of the plan that only the forward needs would compile further programs.
    index_plan = replace(plan.index_plan, manner=Manner(True, True, False, False), features=0)
    plan = replace(plan, index_plan=index_plan, slot_initials=(), unknown_initial=False)
    gradient, to_weights = programs.embed_grad(saved.kept, saved.bags, arrays, plan=plan)
    crossing.done((gradient, to_weights))
    cut = [None if w is None else to_torch(w)[:n] for w, n in zip(to_weights, saved.lengths, strict=True)]
    return gradient, cut


def _padded_grad(crossing: inputs.Crossing, saved: Saved, r: int, grad: Tensor | None) -> jax.Array:
    """float32 of the padded size; None becomes zeros, for a program without the argument would be another one."""
    pooling = saved.plan.poolings[r]
    lines = pooling.size if pooling.combiner == "none" else saved.bag_sizes[r]
    width = saved.dim * ((pooling.tile_len or 1) if pooling.combiner == "tile" else 1)
    if grad is None:
        grad = torch.zeros(lines, width, dtype=torch.float32, device=saved.device)
    return crossing.array(grad, lines, torch.float32)
