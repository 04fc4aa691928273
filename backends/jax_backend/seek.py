"""Find or insert a call's keys: the index half of a lookup, traced inside larger programs.

Sizes: N ids (padded), U unique keys, E entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from recis_core.backends.jax_backend.distinct import Numbered, number_rows
from recis_core.backends.jax_backend.find import holds
from recis_core.backends.jax_backend.loops import Loops, Missing
from recis_core.backends.jax_backend.state import Constants
from recis_core.backends.jax_backend.touch import untouch_if_failed
from recis_core.pallas_kernels.index import Index, Keys
from recis_core.pallas_kernels.insertion import Inserted, Settings


@dataclass(frozen=True)
class Manner:
    """The static part of a lookup; each value compiles a program."""

    insert: bool
    touch: bool
    evict: bool
    counts: bool  # the score counts touches; else it is the step of the last
    repeats: bool = True  # keys may repeat; else they are unique already and get no numbers


class New(NamedTuple):
    """Keys that got a row in this call: the first `count`, which is 0 where the call failed."""

    keys: Keys  # [N]
    rows: jax.Array  # int32 [N]
    count: jax.Array  # int32 []


class Sought(NamedTuple):
    rows: jax.Array  # int32 [N], -1 for unknown and for padding
    numbered: Numbered | None  # where keys may repeat
    new: New | None
    inserted: Inserted | None  # of a table that evicts
    report: jax.Array  # int32, as state.REPORT names it


def seek(
    index: Index, constants: Constants, keys: Keys, valid: jax.Array, clock: jax.Array, manner: Manner, loops: Loops
) -> tuple[Index, Sought]:
    """Row numbers of keys, repeated ones among them; clock is int32 [2], (step, pinned_from)."""
    touched = None
    if manner.touch:
        index, entry, touched = loops.touch(index, keys, valid, clock[0], counts=manner.counts, repeats=manner.repeats)
    else:
        entry = loops.find(index, keys, valid)
    found = entry >= 0
    missing = loops.dedup(keys, valid & ~found)
    if not manner.insert:
        rows = _rows_of(index, entry, keys, found, manner)
        return _reported(index, rows, found, missing, None, manner)
    score = jnp.where(manner.counts, 1, clock[0]).astype(jnp.int32)
    settings = Settings(missing.count, constants.max_rows, clock[0], clock[1], score)
    index, inserted = loops.insert(index, missing.keys, settings, evict=manner.evict)
    if touched is not None:
        index = untouch_if_failed(index, touched, inserted.failed)
    rows = _rows_of(index, entry, keys, found, manner)
    rows = _with_inserted(rows, missing, inserted)
    return _reported(index, rows, found, missing, inserted, manner)


def _rows_of(index: Index, entry: jax.Array, keys: Keys, found: jax.Array, manner: Manner) -> jax.Array:
    """Rows of found keys. A new key may have displaced a found one that was not stamped."""
    at = jnp.where(found, entry, 0)
    if manner.insert and manner.evict and not manner.touch:
        found = found & holds(index, at, keys)
    return jnp.where(found, index.rows.at[at].get(mode="promise_in_bounds"), -1)


def _with_inserted(rows: jax.Array, missing: Missing, inserted: Inserted) -> jax.Array:
    """Give the new keys' rows to all their occurrences."""

    def give(rows: jax.Array) -> jax.Array:
        given = inserted.rows.at[missing.group].get(mode="promise_in_bounds")
        return rows.at[missing.position].set(given, mode="drop")

    return jax.lax.cond(missing.count > 0, give, lambda rows: rows, rows)


def _unique_found(found: jax.Array, numbered: Numbered | None) -> jax.Array:
    if numbered is None:
        return found.sum(dtype=jnp.int32)
    inside = jnp.arange(found.shape[0], dtype=jnp.int32) < numbered.count
    return (inside & found.at[numbered.first].get(mode="promise_in_bounds")).sum(dtype=jnp.int32)


def _reported(
    index: Index, rows: jax.Array, found: jax.Array, missing: Missing, inserted: Inserted | None, manner: Manner
) -> tuple[Index, Sought]:
    numbered = number_rows(rows) if manner.repeats else None
    counted = _unique_found(found, numbered) * int(manner.touch)
    unknown = missing.count * int(manner.touch and not manner.insert)
    failed = jnp.array(False) if inserted is None else inserted.failed
    new = jnp.int32(0) if inserted is None else jnp.where(failed, 0, missing.count)
    evicted = jnp.int32(0) if inserted is None or inserted.evicted is None else inserted.evicted.count
    numbers = (
        index.used, index.next_row, index.free_count, index.stashed,
        jnp.where(failed, 0, counted), new, unknown, evicted, 0, jnp.where(failed, missing.count, 0),
    )  # fmt: skip
    report = jnp.stack([jnp.asarray(x, jnp.int32) for x in numbers])
    new_rows = None if inserted is None else New(missing.keys, inserted.rows, new)
    return index, Sought(rows, numbered, new_rows, inserted if manner.evict else None, report)
