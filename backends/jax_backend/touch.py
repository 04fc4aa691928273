"""Found keys stamped and scored: the XLA form of loops.Touch, and its undoing.

Sizes: N ids, E entries.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recis_core.backends.jax_backend.find import find
from recis_core.backends.jax_backend.loops import Changed
from recis_core.pallas_kernels.index import Index, Keys


def touch(
    index: Index, keys: Keys, valid: jax.Array, step: jax.Array, *, counts: bool, repeats: bool
) -> tuple[Index, jax.Array, Changed]:
    """See loops.Touch."""
    entry = find(index, keys, valid)
    index, changed = touch_entries(index, entry, step, counts)
    return index, entry, changed


def touch_entries(index: Index, entry: jax.Array, step: jax.Array, counts: bool) -> tuple[Index, Changed]:
    """Writes only what changes, so that each write depends on its read and stays in place."""
    at = jnp.where(entry >= 0, entry, index.entries)
    scores, stamps = (x.at[at].get(mode="fill", fill_value=0) for x in (index.scores, index.stamps))
    new_scores = scores + 1 if counts else jnp.broadcast_to(step, scores.shape)
    changed = changes(index, entry, scores, stamps, step, counts)
    index = index._replace(
        scores=index.scores.at[changed.score_at].set(new_scores, mode="drop"),
        stamps=index.stamps.at[changed.stamp_at].set(step, mode="drop"),
    )
    return index, changed


def changes(
    index: Index, entry: jax.Array, scores: jax.Array, stamps: jax.Array, step: jax.Array, counts: bool
) -> Changed:
    """Of entries int32 [N], -1 for none, that held these scores and stamps."""
    at = jnp.where(entry >= 0, entry, index.entries)
    score_at = at if counts else jnp.where(scores != step, at, index.entries)
    return Changed(score_at, jnp.where(stamps != step, at, index.entries), scores, stamps)


def untouch_if_failed(index: Index, changed: Changed, failed: jax.Array) -> Index:
    """Restore the old scores and stamps. A loop of no trips unless the call failed."""

    def undo(state: tuple[jax.Array, Index]) -> tuple[jax.Array, Index]:
        index = state[1]
        return jnp.int32(0), index._replace(
            scores=index.scores.at[changed.score_at].set(changed.scores, mode="drop"),
            stamps=index.stamps.at[changed.stamp_at].set(changed.stamps, mode="drop"),
        )

    return jax.lax.while_loop(lambda s: s[0] > 0, undo, (failed.astype(jnp.int32), index))[1]
