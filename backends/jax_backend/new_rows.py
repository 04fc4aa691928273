"""New rows: their initial weights and slots, written in place.

Sizes: N keys (padded), C keys of a chunk, R rows, D dim.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recis_core.backends.jax_backend.initial_values import initial_values
from recis_core.backends.jax_backend.loops import Slots
from recis_core.backends.jax_backend.seek import New
from recis_core.backends.jax_backend.state import Constants
from recis_core.pallas_kernels.index import Keys

C = 2048  # keys at a time: padding costs at most one chunk


def chunked(array: jax.Array, size: int) -> jax.Array:
    """Padded with zeros to a multiple of `size`: a slice that runs over the end would be moved back."""
    return jnp.pad(array, [(0, -array.shape[0] % size)] + [(0, 0)] * (array.ndim - 1))


def write_initial(
    weights: jax.Array, slots: Slots, constants: Constants, new: New, slot_initials: tuple[float, ...]
) -> tuple[jax.Array, Slots]:
    """Write the initial weights and slots of new keys. A loop of no trips where there are none."""
    size = min(C, new.rows.shape[0])
    keys, rows = jax.tree.map(lambda x: chunked(x, size), (new.keys, new.rows))

    def write(state: tuple[jax.Array, jax.Array, Slots]) -> tuple[jax.Array, jax.Array, Slots]:
        beg, weights, slots = state
        chunk = jax.tree.map(lambda x: jax.lax.dynamic_slice(x, (beg,), (size,)), keys)
        inside = beg + jnp.arange(size, dtype=jnp.int32) < new.count
        at = jnp.where(inside, jax.lax.dynamic_slice(rows, (beg,), (size,)), weights.shape[0])
        weights = weights.at[at].set(initial_rows(constants, chunk, weights), mode="drop")
        slots = tuple(s.at[at].set(x, mode="drop") for s, x in zip(slots, slot_initials, strict=True))
        return beg + size, weights, slots

    return jax.lax.while_loop(lambda s: s[0] < new.count, write, (jnp.int32(0), weights, slots))[1:]


def initial_rows(constants: Constants, keys: Keys, weights: jax.Array) -> jax.Array:
    """[N, D] in the storage dtype, bfloat16 rounded to nearest even."""
    return initial_values(constants, keys, weights.shape[1]).astype(weights.dtype)
