"""Growth: every key moves by the next bits of the word that placed it, so nothing can overflow. Rows stay.

Sizes: S buckets, W ways, E entries, R rows.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recis_core.backends import placement
from recis_core.backends.jax_backend import hashing
from recis_core.backends.jax_backend.place import candidates, free_ways, run_rounds
from recis_core.backends.jax_backend.state import W
from recis_core.pallas_kernels.index import NOWHERE, Index, Keys, hash_word, signed_order


def grown(index: Index, buckets: int, capacity: int) -> Index:
    """The index over `buckets` > S, a power of two, and `capacity` >= R rows."""
    way = jnp.arange(index.ways, dtype=jnp.int32)
    keys = Keys(index.lo[: index.ways], index.hi[: index.ways], index.uids[: index.ways])
    a, b = (hash_word(keys, salt, hashing.FORM) for salt in (placement.A_SALT, placement.B_SALT))
    by_a = (a & jnp.uint32(index.buckets - 1)).astype(jnp.int32) == way // W
    bucket = (jnp.where(by_a, a, b) & jnp.uint32(buckets - 1)).astype(jnp.int32)
    entry = jnp.where(index.rows[: index.ways] >= 0, bucket * W + way % W, buckets * W + placement.STASH)
    moved = _moved(index, buckets, entry, keys)
    more = (0, capacity - index.free.shape[0])
    moved = moved._replace(
        free=jnp.pad(index.free, more), 
        taken=jnp.zeros(buckets, jnp.int32), claims=jnp.full(buckets, NOWHERE, jnp.int32),
    )  # fmt: skip
    return _place_stash(moved, index)


def more_rows(array: jax.Array, initial: jax.Array, capacity: int) -> jax.Array:
    """[R, width] -> [capacity, width]."""
    grown = jnp.full((capacity, array.shape[1]), initial, array.dtype)
    return jax.lax.dynamic_update_slice(grown, array, (0, 0))


def _moved(index: Index, buckets: int, entry: jax.Array, keys: Keys) -> Index:
    empty = {"lo": 0, "hi": 0, "uids": 0, "rows": -1, "scores": 0, "stamps": -1}
    size = buckets * W + placement.STASH

    def move(name: str) -> jax.Array:
        old = getattr(index, name)
        return jnp.full(size, empty[name], old.dtype).at[entry].set(old[: index.ways], mode="drop")

    tags = jnp.zeros((buckets, W), jnp.uint32)
    tags = tags.at[entry // W, entry % W].set(hashing.tags(keys), mode="drop")
    return index._replace(tags=tags, **{name: move(name) for name in empty})


def _place_stash(index: Index, old: Index) -> Index:
    """Stashed keys, in key order, into free ways; what is left stays in the stash, in key order."""
    fields = [getattr(old, name)[old.ways :] for name in ("uids", "hi", "lo", "rows", "scores", "stamps")]
    absent = (jnp.arange(placement.STASH, dtype=jnp.int32) >= old.stashed).astype(jnp.int32)
    fields[1] = signed_order(fields[1])
    absent, uids, hi, lo, rows, scores, stamps = jax.lax.sort((absent, *fields), num_keys=4, is_stable=False)
    keys = Keys(lo, signed_order(hi), uids)
    buckets = candidates(index, keys)
    index, placed = run_rounds(index, buckets, free_ways(index, buckets), absent == 0)
    waits = (absent == 0) & (placed.entry < 0)
    entry = jnp.where(waits, index.ways + jnp.cumsum(waits, dtype=jnp.int32) - 1, placed.entry)
    entry = jnp.where(absent == 0, entry, index.entries)
    values = {"lo": lo, "hi": keys.hi, "uids": uids, "rows": rows, "scores": scores, "stamps": stamps}
    written = {name: getattr(index, name).at[entry].set(x, mode="drop") for name, x in values.items()}
    tags = index.tags.at[entry // W, entry % W].set(hashing.tags(keys), mode="drop")
    return index._replace(tags=tags, stashed=waits.sum(dtype=jnp.int32), **written)
