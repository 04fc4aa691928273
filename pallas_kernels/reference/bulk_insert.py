"""See pallas_kernels.bulk_insert: the same chunks, their stages in plain jnp, ranks by a stable sort.

Sizes: Q new keys (padded), M lanes of a chunk, S buckets, W ways, E entries.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from recis_core.pallas_kernels.index import Format, Index, Keys, candidates, signed_order, tags
from recis_core.pallas_kernels.insertion import Holding, Inserted, Settings, Stages, held_at, insert


def bulk_insert(
    index: Index, keys: Keys, settings: Settings, *, form: Format, evict: bool = False
) -> tuple[Index, Inserted]:
    """As the kernel."""
    stages = Stages(partial(place, form=form), partial(write, form=form))
    return insert(index, keys, settings, evict=evict, form=form, stages=stages)


def place(
    index: Index, keys: Keys, valid: jax.Array, has_room: jax.Array, pinned_from: jax.Array,
    *, evict: bool, form: Format,
) -> tuple[Index, jax.Array, Holding | None]:  # fmt: skip
    """See insertion.Place."""
    ways = index.tags.shape[1]
    both = jnp.stack(candidates(keys, index.buckets, form), 1)
    entries = both[..., None] * ways + jnp.arange(ways, dtype=jnp.int32)
    free = index.rows[entries] < 0
    order = jnp.argsort(~free, axis=2, stable=True)
    entry = _play(index, both, order, free.sum(2), None, valid & has_room, form)
    if not evict:
        return index, entry, None
    usable = (index.rows[entries] >= 0) & (index.stamps[entries] < pinned_from)
    fields = (index.lo, signed_order(index.hi), index.uids, index.scores)
    order = jnp.lexsort((*(x[entries] for x in fields), ~usable), axis=2)
    scores = jnp.take_along_axis(index.scores[entries], order, 2)
    won = _play(index, both, order, usable.sum(2), scores, valid & (entry < 0), form)
    return index, jnp.where(won >= 0, won, entry), held_at(index, won)


def _play(
    index: Index, both: jax.Array, order: jax.Array, limit: jax.Array, scores: jax.Array | None, pending: jax.Array,
    form: Format,
) -> jax.Array:  # fmt: skip
    """Entries won, int32 [M]. order [M, 2, W]: ways as offered; scores: of victims, in that order."""
    ways, lane = index.tags.shape[1], jnp.arange(pending.shape[0], dtype=jnp.int32)

    def turn(r: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        taken, entry = state
        used = taken[both]
        left = limit - used
        second = left[:, 0] < left[:, 1]
        if scores is not None:
            following = jnp.take_along_axis(scores, jnp.minimum(used, ways - 1)[..., None], 2)[..., 0]
            second = (left[:, 1] > 0) & ((left[:, 0] <= 0) | (following[:, 1] < following[:, 0]))
        side = second.astype(jnp.int32)
        bucket, used, left = (x[lane, side] for x in (both, used, left))
        quota = jnp.where(r == form.rounds - 1, left, (left + 1) // 2)
        rank = _rank(jnp.where(pending & (entry < 0) & (quota > 0), bucket, index.buckets))
        won = pending & (entry < 0) & (rank < quota)
        way = order[lane, side, jnp.minimum(used + rank, ways - 1)].astype(jnp.int32)
        taken = taken.at[jnp.where(won, bucket, index.buckets)].add(1, mode="drop")
        return taken, jnp.where(won, bucket * ways + way, entry)

    nothing = jnp.full(pending.shape, -1, jnp.int32)
    return jax.lax.fori_loop(0, form.rounds, turn, (jnp.zeros_like(index.taken), nothing))[1]


def _rank(bucket: jax.Array) -> jax.Array:
    """Position of each lane among those of its bucket."""
    by = jnp.argsort(bucket, stable=True)
    ordered = bucket[by]
    first = jnp.searchsorted(ordered, ordered, side="left")
    return (
        jnp.zeros_like(bucket).at[by].set(jnp.arange(bucket.shape[0], dtype=bucket.dtype) - first.astype(bucket.dtype))
    )


def write(index: Index, entry: jax.Array, keys: Keys, rows: jax.Array, settings: Settings, *, form: Format) -> Index:
    """See insertion.Write."""
    ways = index.tags.shape[1]
    values = dict(zip(("lo", "hi", "uids"), keys, strict=True)) | {"rows": rows}
    values |= {"scores": settings.score, "stamps": settings.step}
    fields = {name: getattr(index, name).at[entry].set(value, mode="drop") for name, value in values.items()}
    return index._replace(tags=index.tags.at[entry // ways, entry % ways].set(tags(keys, form), mode="drop"), **fields)
