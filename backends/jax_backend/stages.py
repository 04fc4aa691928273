"""The stages called one by one, as programs on padded arrays.

Sizes: N ids or U keys (padded), B bags (padded), P keys (padded), R rows, D dim, T logical tables.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from recis_core.backends import placement
from recis_core.backends.jax_backend import hashing, new_rows
from recis_core.backends.jax_backend.distinct import sort_rows
from recis_core.backends.jax_backend.embed import Bags, Pooling, request_terms, weights_grad
from recis_core.backends.jax_backend.embed import read_rows as read_values
from recis_core.backends.jax_backend.gradient import KeyedGradient, sum_in_order
from recis_core.backends.jax_backend.loops import Loops, Noise, Slots, Touched
from recis_core.backends.jax_backend.seek import Manner, New, Sought, seek
from recis_core.backends.jax_backend.state import Constants
from recis_core.backends.spec import UpdateRule
from recis_core.pallas_kernels.index import Index, Keys


class Unique(NamedTuple):
    ids: jax.Array  # uint32 [N, 2]
    ordinals: jax.Array  # int32 [N]
    inverse: jax.Array  # int32 [N]
    counts: jax.Array  # int32 [N]
    slices: jax.Array  # int32 [N]
    count: jax.Array  # int32 []


def keys_of(ids: jax.Array, ordinals: jax.Array, constants: Constants) -> Keys:
    lo, hi = hashing.split(ids)
    return Keys(lo, hi, constants.uids.at[ordinals].get(mode="clip"))


def first(size: int, count: jax.Array) -> jax.Array:
    return jnp.arange(size, dtype=jnp.int32) < count


def partition(ids: jax.Array, ordinals: jax.Array, count: jax.Array, constants: Constants, *, loops: Loops) -> Unique:
    """Unique keys ascending by (ordinal, signed id)."""
    lo, hi = hashing.split(ids)
    valid = first(lo.shape[0], count)
    unique = loops.dedup(Keys(lo, hi, ordinals.astype(jnp.uint32)), valid)
    inverse = jnp.zeros_like(ordinals).at[unique.position].set(unique.group, mode="drop")
    counts = jnp.zeros_like(ordinals).at[jnp.where(valid, inverse, lo.shape[0])].add(1, mode="drop")
    words = jnp.stack([unique.keys.lo, unique.keys.hi], 1)
    ordinals = unique.keys.uids.astype(jnp.int32)
    slices = hashing.slices(keys_of(words, ordinals, constants))
    return Unique(words, ordinals, inverse, counts, slices, unique.count)


def lookup(
    index: Index,
    constants: Constants,
    ids: jax.Array,
    ordinals: jax.Array,
    numbers: jax.Array,
    manner: Manner,
    *,
    loops: Loops,
) -> tuple[Index, Sought]:
    """numbers: int32 [3], how many keys are real, and the clock."""
    valid = first(ids.shape[0], numbers[0])
    return seek(index, constants, keys_of(ids, ordinals, constants), valid, numbers[1:], manner, loops)


def write_initial(
    weights: jax.Array, slots: Slots, constants: Constants, new: New, slot_initials: tuple[float, ...]
) -> tuple[jax.Array, Slots]:
    return new_rows.write_initial(weights, slots, constants, new, slot_initials)


def gather(
    weights: jax.Array,
    rows: jax.Array,
    ids: jax.Array,
    ordinals: jax.Array,
    constants: Constants,
    unknown_initial: bool,
    *,
    loops: Loops,
) -> jax.Array:
    return read_values(weights, rows, keys_of(ids, ordinals, constants), constants, unknown_initial, loops)


def pool(table: jax.Array, inverse: jax.Array, bags: Bags, pooling: Pooling, *, loops: Loops) -> jax.Array:
    return loops.gather_pool(
        table, inverse, bags.offsets, bags.weights, combiner=pooling.combiner, tile_len=pooling.tile_len
    )


def pool_grad(
    grad: jax.Array, table: jax.Array, inverse: jax.Array, bags: Bags, pooling: Pooling, *, loops: Loops
) -> tuple[jax.Array, jax.Array | None]:
    """inverse is -1 past the last id. Returns the sums by row, [U + ·, D], and the gradient to the weights."""
    # Rows that `inverse` never names must read as zeros, so all U count as real; the sums of a row's
    # further chunks need lines behind them.
    lines = table.shape[0] + inverse.shape[0] // placement.SUM_CHUNK + 1
    counts = jnp.zeros(lines, jnp.int32).at[jnp.where(inverse >= 0, inverse, lines)].add(1, mode="drop")
    offsets = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(counts, dtype=jnp.int32)])
    terms = request_terms(grad, bags, pooling, loops)
    summed = sum_in_order(terms, sort_rows(inverse)[0], offsets, jnp.int32(table.shape[0]), loops)
    if not pooling.weights_need_grad:
        return summed, None
    return summed, weights_grad(grad, table, inverse, bags, terms, pooling, loops)


def pad_gradient(gradient: KeyedGradient, size: int) -> KeyedGradient:
    def pad(x: jax.Array) -> jax.Array:
        return jnp.pad(x, [(0, size - x.shape[0])] + [(0, 0)] * (x.ndim - 1)) if x.ndim else x

    return jax.tree.map(pad, gradient)


def words(lo: jax.Array, hi: jax.Array) -> jax.Array:
    return jnp.stack([lo, hi], 1)


def update(
    weights: jax.Array, slots: Slots, gradient: KeyedGradient, constants: Constants, hyper: jax.Array,
    factor: jax.Array, t: jax.Array, rule: UpdateRule, *, loops: Loops,
) -> tuple[jax.Array, Slots]:  # fmt: skip
    noise = None
    if weights.dtype == jnp.bfloat16:
        uids, counter = (x.at[gradient.ordinals].get(mode="clip") for x in (constants.uids, t))
        noise = Noise(constants.seed, Keys(gradient.lo, gradient.hi, uids), counter)
    rows = jnp.where(first(gradient.rows.shape[0], gradient.count), gradient.rows, -1)
    touched = Touched(rows, gradient.ordinals, gradient.values, gradient.count, noise)
    return loops.update(rule, weights, slots, touched, hyper, factor)


def rows_by_table(index: Index, constants: Constants) -> jax.Array:
    """int32 [T], keys of each logical table."""
    return ((index.uids == constants.uids[:, None]) & (index.rows >= 0)).sum(1, dtype=jnp.int32)


def read_rows(arrays: tuple[jax.Array, ...], rows: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(x.at[rows].get(mode="clip") for x in arrays)


def write_rows(arrays: tuple[jax.Array, ...], rows: jax.Array, values: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """values are [P, width], or one number for all; rows past the end are left out."""
    return tuple(x.at[rows].set(v.astype(x.dtype), mode="drop") for x, v in zip(arrays, values, strict=True))


def write_marks(
    index: Index, constants: Constants, ids: jax.Array, ordinals: jax.Array, count: jax.Array,
    scores: jax.Array | None, stamps: jax.Array | None, *, loops: Loops,
) -> Index:  # fmt: skip
    """Overwrite scores and stamps of keys that are there."""
    entry = loops.find(index, keys_of(ids, ordinals, constants), first(ids.shape[0], count))
    at = jnp.where(entry >= 0, entry, index.entries)
    new_scores = index.scores if scores is None else index.scores.at[at].set(scores, mode="drop")
    new_stamps = index.stamps if stamps is None else index.stamps.at[at].set(stamps, mode="drop")
    return index._replace(scores=new_scores, stamps=new_stamps)
