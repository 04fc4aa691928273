"""Unique keys: found ones by row number, missing ones in key order.

Sizes: N ids, U unique keys.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from recis_core.backends.jax_backend.loops import Missing
from recis_core.pallas_kernels.index import Keys, signed_order
from recis_core.pallas_kernels.order import compact, sorted_with_position

SMALL = 16  # up to a 16th of N missing ones are sorted apart: XLA's CPU sort of all 65,536 takes 17 ms
MANY = 8192  # below so many ids that is not worth its compilation


class Numbered(NamedTuple):
    """Distinct rows, ascending, as segments of their occurrences.

    rows    7 3 -1 3      order    1 3 0 2      offsets 0 2 3 3 3      count 2: rows 3 and 7
    """

    order: jax.Array  # int32 [N], occurrences by row, each row's in order; row -1 comes last
    offsets: jax.Array  # int32 [N + 1], segment p is order[offsets[p] : offsets[p + 1]], empty from `count` on
    first: jax.Array  # int32 [N], the first occurrence of each
    count: jax.Array  # int32 [], U


def number_rows(rows: jax.Array) -> Numbered:
    """Number the distinct rows >= 0 of int32 [N], ascending, so that later loops walk memory in order."""
    size = rows.shape[0]
    order, ordered = sort_rows(rows)
    starts = (ordered >= 0) & _differs(ordered)
    number = jnp.cumsum(starts, dtype=jnp.int32) - 1
    at = jnp.where(starts, number, size + 1)
    offsets = jnp.full(size + 1, (rows >= 0).sum(dtype=jnp.int32))
    offsets = offsets.at[at].set(jnp.arange(size, dtype=jnp.int32), mode="drop", unique_indices=True)
    first = jnp.zeros(size, jnp.int32).at[at].set(order, mode="drop", unique_indices=True)
    return Numbered(order, offsets, first, number[-1] + 1)


def sort_rows(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(stable order of int32 [N], the values in it), -1 last."""
    ordered, order = sorted_with_position(rows.astype(jnp.uint32))
    return order, ordered.astype(jnp.int32)


def missing_keys(keys: Keys, missing: jax.Array) -> Missing:
    """The unique keys among the flagged ones, ascending by (uid, signed id)."""
    size = missing.shape[0]
    count = missing.sum(dtype=jnp.int32)
    sizes = (0, size // SMALL, size) if size > MANY else (0, size)
    which = sum((count > s).astype(jnp.int32) for s in sizes[:-1])
    return jax.lax.switch(which, [partial(_sorted_keys, size=s) for s in sizes], keys, missing, count)


def _sorted_keys(keys: Keys, missing: jax.Array, count: jax.Array, *, size: int) -> Missing:
    """As missing_keys, when at most `size` are flagged."""
    total = missing.shape[0]
    if size == 0:
        return Missing(jax.tree.map(jnp.zeros_like, keys), jnp.int32(0), _all(total, total), _all(total, 0))
    position = compact(jnp.arange(total, dtype=jnp.int32), missing)[:size]
    inside = jnp.arange(size, dtype=jnp.int32) < count
    position = jnp.where(inside, position, total)
    uids, hi, lo, position = _sort(keys, position)
    starts = inside & _differs(uids, hi, lo)
    group = jnp.cumsum(starts, dtype=jnp.int32) - 1
    unique = Keys(*(compact(x, starts) for x in (lo, signed_order(hi), uids)))
    rest = (_fill(x, total, 0) for x in unique)
    return Missing(Keys(*rest), group[-1] + 1, _fill(position, total, total), _fill(group, total, 0))


def _sort(keys: Keys, position: jax.Array) -> tuple[jax.Array, ...]:
    """By (uid, signed id, position); positions past the end come last, even behind a key of all ones."""
    at = {"mode": "fill", "fill_value": 0xFFFFFFFF}
    uids, lo = keys.uids.at[position].get(**at), keys.lo.at[position].get(**at)
    hi = signed_order(keys.hi).at[position].get(**at)
    return jax.lax.sort((uids, hi, lo, position), num_keys=4, is_stable=False)


def _differs(*columns: jax.Array) -> jax.Array:
    """Whether each element differs from the one before; True for the first."""
    changed = jnp.zeros(columns[0].shape[0] - 1, bool)
    for column in columns:
        changed = changed | (column[1:] != column[:-1])
    return jnp.concatenate([jnp.ones(1, bool), changed])


def _all(size: int, value: int) -> jax.Array:
    return jnp.full(size, value, jnp.int32)


def _fill(values: jax.Array, size: int, value: int) -> jax.Array:
    return jnp.pad(values, (0, size - values.shape[0]), constant_values=value)
