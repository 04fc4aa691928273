"""New keys into the index, by XLA alone: pallas_kernels' chunks with the stages of place.py.

Sizes: M lanes of a chunk, E entries.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recis_core.backends.jax_backend import hashing
from recis_core.backends.jax_backend.place import Placed, Victims, candidates, free_ways, run_rounds, victims
from recis_core.backends.jax_backend.state import W
from recis_core.pallas_kernels import insertion
from recis_core.pallas_kernels.index import Index, Keys
from recis_core.pallas_kernels.insertion import Holding, Inserted, Settings, Stages


def insert(index: Index, keys: Keys, settings: Settings, *, evict: bool) -> tuple[Index, Inserted]:
    """See loops.Insert."""
    return insertion.insert(index, keys, settings, evict=evict, form=hashing.FORM, stages=Stages(_place, _write))


def _place(
    index: Index, keys: Keys, valid: jax.Array, has_room: jax.Array, pinned_from: jax.Array, *, evict: bool
) -> tuple[Index, jax.Array, Holding | None]:
    """See insertion.Place."""
    buckets = candidates(index, keys)
    index, free = run_rounds(index, buckets, free_ways(index, buckets), valid & has_room)
    if not evict:
        return index, free.entry, None
    offers = victims(index, buckets, pinned_from)
    index, won = run_rounds(index, buckets, offers, valid & (free.entry < 0))
    return index, jnp.where(won.entry >= 0, won.entry, free.entry), _held(offers, won)


def _held(offers: Victims, won: Placed) -> Holding:
    lo, hi, uids, rows, scores, stamps = (
        offers.at(x, won.side, jnp.maximum(won.nth, 0))
        for x in (offers.lo, offers.hi, offers.uids, offers.rows, offers.scores, offers.stamps)
    )
    return Holding(Keys(lo, hi, uids), jnp.where(won.entry >= 0, rows, -1), scores, stamps)


def _write(index: Index, entry: jax.Array, keys: Keys, rows: jax.Array, settings: Settings) -> Index:
    def put(array: jax.Array, values: jax.Array) -> jax.Array:
        return array.at[entry].set(values, mode="drop")

    return index._replace(
        tags=index.tags.at[entry // W, entry % W].set(hashing.tags(keys), mode="drop"),
        lo=put(index.lo, keys.lo),
        hi=put(index.hi, keys.hi),
        uids=put(index.uids, keys.uids),
        rows=put(index.rows, rows),
        scores=put(index.scores, settings.score),
        stamps=put(index.stamps, settings.step),
    )
