"""See pallas_kernels.probe.

Sizes: N keys, S buckets, W ways, E entries.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recis_core.pallas_kernels.index import Format, Index, Keys, candidates
from recis_core.pallas_kernels.probe import Found, Touch


def probe(
    index: Index,
    keys: Keys,
    valid: jax.Array,
    step: jax.Array | None = None,
    *,
    form: Format,
    touch: Touch | None = None,
) -> tuple[Index, Found]:
    """As the kernel, by looking at every way and no fingerprint."""
    a, b = candidates(keys, index.tags.shape[0], form)
    way = jnp.arange(index.tags.shape[1], dtype=jnp.int32)
    at = jnp.concatenate([a[:, None] * index.tags.shape[1] + way, b[:, None] * index.tags.shape[1] + way], 1)
    holds = _holds(index, at, jax.tree.map(lambda x: x[:, None], keys)) & valid[:, None]
    entry = jnp.where(holds.any(1), jnp.take_along_axis(at, holds.argmax(1)[:, None], 1)[:, 0], -1)

    def look(k: jax.Array, entry: jax.Array) -> jax.Array:
        return jnp.where(_holds(index, jnp.full_like(entry, k), keys) & valid, k, entry)

    entry = jax.lax.fori_loop(index.ways, index.ways + index.stashed, look, entry)
    rows = jnp.where(entry >= 0, index.rows[entry], -1)
    if touch is None:
        return index, Found(entry, rows)
    into = jnp.where(entry >= 0, entry, index.entries)
    scores, stamps = (x.at[into].get(mode="fill", fill_value=0) for x in (index.scores, index.stamps))
    score = scores + 1 if touch.counts else jnp.broadcast_to(step, scores.shape)
    index = index._replace(
        scores=index.scores.at[into].set(score, mode="drop"),
        stamps=index.stamps.at[into].set(step[0], mode="drop"),  # type: ignore[index]
    )
    return index, Found(entry, rows, scores, stamps)


def _holds(index: Index, at: jax.Array, keys: Keys) -> jax.Array:
    same = (index.lo[at] == keys.lo) & (index.hi[at] == keys.hi) & (index.uids[at] == keys.uids)
    return same & (index.rows[at] >= 0)
