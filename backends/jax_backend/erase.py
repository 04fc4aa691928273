"""Forget keys: their rows go on the free stack, and the stash closes its gaps.

Sizes: U keys (padded), E entries, R rows.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recis_core.backends import placement
from recis_core.backends.jax_backend.hashing import split
from recis_core.backends.jax_backend.loops import Loops
from recis_core.backends.jax_backend.state import Constants, W
from recis_core.pallas_kernels.index import NOWHERE, Index, Keys
from recis_core.pallas_kernels.order import compact


def erase(
    index: Index, constants: Constants, ids: jax.Array, ordinals: jax.Array, count: jax.Array, *, loops: Loops
) -> tuple[Index, jax.Array]:
    """The index without these keys, and the call's report."""
    lo, hi = split(ids)
    keys = Keys(lo, hi, constants.uids.at[ordinals].get(mode="clip"))
    entry = loops.find(index, keys, jnp.arange(lo.shape[0], dtype=jnp.int32) < count)
    known = entry >= 0
    freed = jnp.sort(jnp.where(known, index.rows.at[entry].get(mode="clip"), NOWHERE))
    erased = known.sum(dtype=jnp.int32)
    nth = jnp.arange(freed.shape[0], dtype=jnp.int32)
    free_at = jnp.where(nth < erased, index.free_count + nth, index.free.shape[0])
    index = index._replace(free=index.free.at[free_at].set(freed, mode="drop"), free_count=index.free_count + erased)
    index = _cleared(index, jnp.where(known, entry, index.entries))
    index = _closed_gaps(index)
    zero = jnp.int32(0)
    numbers = (index.used, index.next_row, index.free_count, index.stashed, zero, zero, zero, zero, erased, zero)
    return index, jnp.stack(numbers)


def _cleared(index: Index, at: jax.Array) -> Index:
    return index._replace(
        tags=index.tags.at[at // W, at % W].set(jnp.uint32(0), mode="drop"),
        rows=index.rows.at[at].set(-1, mode="drop"),
    )


def _closed_gaps(index: Index) -> Index:
    """Later stash entries move down over erased ones."""
    stash = slice(index.ways, index.ways + placement.STASH)
    kept = index.rows[stash] >= 0
    count = kept.sum(dtype=jnp.int32)
    moved = {name: compact(getattr(index, name)[stash], kept) for name in ("lo", "hi", "uids", "scores", "stamps")}
    rows = jnp.where(jnp.arange(placement.STASH) < count, compact(index.rows[stash], kept), -1)
    moved = {name: getattr(index, name).at[stash].set(x) for name, x in (moved | {"rows": rows}).items()}
    return index._replace(stashed=count, **moved)
