"""A whole call and its backward, as programs: find or insert, write new rows, pool; then sum by key.

Sizes: N ids (padded), n ids of a request (padded), B bags (padded), P = N keys (padded), F features, T logical tables, D dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp

from recis_core.backends.jax_backend.gradient import KeyedGradient, Terms, sum_in_order
from recis_core.backends.jax_backend.hashing import split
from recis_core.backends.jax_backend.loops import Loops, Slots
from recis_core.backends.jax_backend.new_rows import initial_rows, write_initial
from recis_core.backends.jax_backend.ordered_sum import segment_of
from recis_core.backends.jax_backend.pool import weighing
from recis_core.backends.jax_backend.seek import Manner, Sought, seek
from recis_core.backends.jax_backend.state import Constants
from recis_core.pallas_kernels.index import Index, Keys


@dataclass(frozen=True)
class Pooling:
    """The static part of a request."""

    combiner: str
    tile_len: int | None
    size: int  # n
    weights_need_grad: bool


@dataclass(frozen=True)
class IndexPlan:
    """The static part of a call's index half: without dim and combiners."""

    manner: Manner
    sizes: tuple[int, ...]  # n of each request
    features: int

    @property
    def starts(self) -> list[int]:
        """Where each request's run begins in the padded ids."""
        starts = [0]
        for size in self.sizes:
            starts.append(starts[-1] + size)
        return starts


@dataclass(frozen=True)
class Plan:
    """The static part of a call; each value compiles a program."""

    index_plan: IndexPlan
    poolings: tuple[Pooling, ...]
    learns: bool
    unknown_initial: bool
    slot_initials: tuple[float, ...]
    loops: Loops

    @property
    def keeps_values(self) -> bool:
        return any(p.weights_need_grad for p in self.poolings)


class Bags(NamedTuple):
    """A request's padded arrays."""

    offsets: jax.Array  # int32 [B + 1]
    weights: jax.Array | None  # float32 [n]


class Kept(NamedTuple):
    """What the backward needs beside the bags."""

    lo: jax.Array  # uint32 [N], of unique keys, as are hi, ordinals and rows
    hi: jax.Array
    ordinals: jax.Array  # int32 [N]
    rows: jax.Array  # int32 [N]
    order: jax.Array  # int32 [N], occurrences by key
    offsets: jax.Array  # int32 [N + 1], each key's in it
    count: jax.Array  # int32 []
    values: jax.Array | None  # float32 [N, D], each occurrence's row


class Control(NamedTuple):
    """A call's small numbers, as parts of one int32 vector: each transfer has its cost."""

    clock: jax.Array  # [2]
    lengths: jax.Array  # [requests], real ids of each run
    ends: jax.Array  # [F], where features end in the padded ids
    ordinals: jax.Array  # [F]


def read_control(control: jax.Array, index_plan: IndexPlan) -> Control:
    requests, features = len(index_plan.sizes), index_plan.features
    bounds = [0, 2, 2 + requests, 2 + requests + features, 2 + requests + 2 * features]
    return Control(*(control[beg:end] for beg, end in pairwise(bounds)))


def call_keys(
    ids: jax.Array, control: Control, constants: Constants, index_plan: IndexPlan
) -> tuple[Keys, jax.Array, jax.Array]:
    """(keys [N], which are real, their ordinals) of uint32 ids [N, 2]."""
    lo, hi = split(ids)
    position = jnp.arange(lo.shape[0], dtype=jnp.int32)
    if constants.uids.shape[0] == 1:
        ordinals = jnp.zeros_like(position)
    else:
        feature = jnp.searchsorted(control.ends, position, side="right", method="scan_unrolled")
        ordinals = control.ordinals.at[feature].get(mode="clip")
    inside = [jnp.arange(size, dtype=jnp.int32) < control.lengths[r] for r, size in enumerate(index_plan.sizes)]
    return Keys(lo, hi, constants.uids.at[ordinals].get(mode="clip")), jnp.concatenate(inside), ordinals


def seek_call(
    index: Index, constants: Constants, ids: jax.Array, control: jax.Array, index_plan: IndexPlan, *, loops: Loops
) -> tuple[Index, Sought]:
    """The index half of a call."""
    numbers = read_control(control, index_plan)
    keys, valid, _ = call_keys(ids, numbers, constants, index_plan)
    return seek(index, constants, keys, valid, numbers.clock, index_plan.manner, loops)


def pool_call(
    weights: jax.Array, constants: Constants, sought: Sought, ids: jax.Array, control: jax.Array,
    bags: tuple[Bags, ...], plan: Plan,
) -> tuple[tuple[jax.Array, ...], Kept | None]:  # fmt: skip
    """The rows' half of a call, once new rows are written."""
    keys, _, ordinals = call_keys(ids, read_control(control, plan.index_plan), constants, plan.index_plan)
    table, rows, values = weights, sought.rows, None
    if plan.unknown_initial or plan.keeps_values:
        values = read_rows(weights, rows, keys, constants, plan.unknown_initial, plan.loops)
    if plan.unknown_initial:
        table, rows = values, jnp.arange(rows.shape[0], dtype=jnp.int32)
    outputs = tuple(
        plan.loops.gather_pool(
            table, rows[beg : beg + p.size], b.offsets, b.weights, combiner=p.combiner, tile_len=p.tile_len
        )
        for p, b, beg in zip(plan.poolings, bags, plan.index_plan.starts, strict=False)
    )
    if not plan.learns and not plan.keeps_values:
        return outputs, None
    return outputs, kept_of(sought, keys, ordinals, values if plan.keeps_values else None)


def embed_call(
    index: Index, weights: jax.Array, slots: Slots, constants: Constants, ids: jax.Array, control: jax.Array,
    bags: tuple[Bags, ...], plan: Plan,
) -> tuple[Index, jax.Array, Slots, tuple[jax.Array, ...], Kept | None, jax.Array]:  # fmt: skip
    """A call as one program: find or insert, write new rows, pool. Each write depends on the read before it."""
    index, sought = seek_call(index, constants, ids, control, plan.index_plan, loops=plan.loops)
    if sought.new is not None:
        weights, slots = write_initial(weights, slots, constants, sought.new, plan.slot_initials)
    outputs, kept = pool_call(weights, constants, sought, ids, control, bags, plan)
    return index, weights, slots, outputs, kept, sought.report


def read_rows(
    weights: jax.Array, rows: jax.Array, keys: Keys, constants: Constants, unknown_initial: bool, loops: Loops
) -> jax.Array:
    """float32 [N, D]; row -1 reads as zeros or as its key's initial value."""
    everything = jnp.array([0, rows.shape[0]], jnp.int32)
    values = loops.gather_pool(weights, rows, everything, None, combiner="none", tile_len=None)
    if not unknown_initial:
        return values
    return jnp.where((rows >= 0)[:, None], values, initial_rows(constants, keys, weights).astype(jnp.float32))


def kept_of(sought: Sought, keys: Keys, ordinals: jax.Array, values: jax.Array | None) -> Kept:
    """Of a call whose keys may repeat."""
    order, offsets, first, count = sought.numbered  # type: ignore[misc]
    lo, hi, ordinals, rows = (
        x.at[first].get(mode="promise_in_bounds") for x in (keys.lo, keys.hi, ordinals, sought.rows)
    )
    return Kept(lo, hi, ordinals, rows, order, offsets, count, values)


def embed_grad_call(
    kept: Kept, bags: tuple[Bags, ...], grads: tuple[jax.Array, ...], plan: Plan
) -> tuple[KeyedGradient | None, tuple[jax.Array | None, ...]]:
    """The gradient by unique key, and one for the weights of each request that asks."""
    terms = [request_terms(g, b, p, plan.loops) for g, b, p in zip(grads, bags, plan.poolings, strict=True)]
    to_weights = tuple(
        weights_grad(g, kept.values, beg + jnp.arange(p.size, dtype=jnp.int32), b, t, p, plan.loops)
        if p.weights_need_grad
        else None
        for g, b, t, p, beg in zip(grads, bags, terms, plan.poolings, plan.index_plan.starts, strict=False)
    )
    if not plan.learns:
        return None, to_weights
    values = sum_in_order(joined(terms), kept.order, kept.offsets, kept.count, plan.loops)
    counts = kept.offsets[1:] - kept.offsets[:-1]
    return KeyedGradient(kept.lo, kept.hi, kept.ordinals, kept.rows, values, counts, kept.count), to_weights


def request_terms(grad: jax.Array, b: Bags, p: Pooling, loops: Loops) -> Terms:
    """Which output gradient reaches each occurrence, and by what factor; grad is [B, ·], or [n, D] with none."""
    position = jnp.arange(p.size, dtype=jnp.int32)
    if p.combiner == "none":
        return Terms(grad, position, b.weights)
    bag = segment_of(b.offsets, p.size)
    inside = bag < b.offsets.shape[0] - 1
    if p.combiner == "tile":
        tile_len = p.tile_len or 1
        nth = position - b.offsets.at[bag].get(mode="clip")
        source = jnp.where(inside & (nth < tile_len), bag * tile_len + nth, -1)
        return Terms(grad.reshape(-1, grad.shape[1] // tile_len), source, b.weights)
    source = jnp.where(inside, bag, -1)
    if p.combiner == "sum":
        return Terms(grad, source, b.weights)
    by = weighing(b.offsets, b.weights, p.combiner, loops.gather_pool)
    scale = by.inverse.at[bag].get(mode="clip")
    return Terms(grad, source, scale if by.weights is None else scale * by.weights)


def joined(terms: list[Terms]) -> Terms:
    """One run of occurrences from several requests: sources shift past the vectors before them."""
    if len(terms) == 1:
        return terms[0]
    sources, start = [], 0
    for t in terms:
        sources.append(jnp.where(t.source >= 0, t.source + start, -1))
        start += t.vectors.shape[0]
    scales = [jnp.ones(t.source.shape[0], jnp.float32) if t.scale is None else t.scale for t in terms]
    return Terms(jnp.concatenate([t.vectors for t in terms]), jnp.concatenate(sources), jnp.concatenate(scales))


def weights_grad(
    grad: jax.Array, values: jax.Array, rows: jax.Array, b: Bags, terms: Terms, p: Pooling, loops: Loops
) -> jax.Array:
    """d loss / d weights, float32 [n], of occurrences that read values[rows]. With s = Σ w·e and out = s / divisor:
    sum e·g; mean (e − out)·g / divisor; sqrtn e·g / divisor − w · out·g / divisor²; a zero divisor gives 0.
    w and the divisor are lifted.
    """
    dots = loops.row_dot(values, rows, terms.vectors, terms.source)
    if p.combiner in ("sum", "none", "tile"):
        return dots
    bag = segment_of(b.offsets, p.size)
    by = weighing(b.offsets, b.weights, p.combiner, loops.gather_pool)
    out = loops.gather_pool(values, rows, b.offsets, b.weights, combiner=p.combiner, tile_len=None)
    shared = ((out * grad).sum(1) * by.inverse).at[bag].get(mode="clip")
    scale, lift = by.inverse.at[bag].get(mode="clip"), by.lift.at[bag].get(mode="clip")  # type: ignore[union-attr]
    slope = dots * scale - (shared if p.combiner == "mean" else by.weights * shared * scale)  # type: ignore[operator]
    return jnp.where(terms.source >= 0, slope * lift, 0.0)
