"""Where keys are: fingerprints of both candidate buckets first, then the one way that matched.

Reads 128 bytes of fingerprints an id and 16 bytes of its entry.

Sizes: N ids, S buckets, W ways, E entries.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recis_core.backends import placement
from recis_core.backends.jax_backend import hashing
from recis_core.pallas_kernels.index import Index, Keys

W = placement.WAYS


UNSURE = -2


def find(index: Index, keys: Keys, valid: jax.Array) -> jax.Array:
    """The entry of each key, int32 [N]; -1 where it is absent or not valid."""
    entry = _by_fingerprint(index, keys, valid)
    entry = _compare_fully(index, keys, entry)
    return _find_in_stash(index, keys, valid, entry)


def _by_fingerprint(index: Index, keys: Keys, valid: jax.Array) -> jax.Array:
    """As find, without the stash; UNSURE where several fingerprints match and the first is another key's.

    UNSURE is a value of the same array: for a second array XLA would compute the masks again.
    """
    a, b = hashing.buckets(keys, index.buckets)
    tags = hashing.tags(keys)
    ways = matching_ways(index.tags, a, tags) | matching_ways(index.tags, b, tags) << W
    way = lowest_bit(ways)
    entry = jnp.where(way < W, a * W + way, b * W + way - W)
    matches = valid & (ways != 0)
    hit = matches & holds(index, jnp.where(matches, entry, 0), keys)
    several = valid & (ways & (ways - jnp.uint32(1)) != 0)
    return jnp.where(hit, entry, jnp.where(several, UNSURE, -1))


def matching_ways(tags: jax.Array, bucket: jax.Array, tag: jax.Array) -> jax.Array:
    """Bit w of uint32 [N] says that way w of the bucket has the fingerprint."""
    ways = tags.at[bucket].get(mode="promise_in_bounds")
    return mask_of(ways == tag[:, None])


def mask_of(flags: jax.Array) -> jax.Array:
    """bool [..., W] -> uint32 [...], flag w in bit w."""
    bits = jnp.where(flags, jnp.uint32(1) << jnp.arange(W, dtype=jnp.uint32), jnp.uint32(0))
    return jax.lax.reduce(bits, jnp.uint32(0), jax.lax.bitwise_or, (flags.ndim - 1,))


def lowest_bit(mask: jax.Array) -> jax.Array:
    """The number of the lowest bit set, int32; 32 where there is none."""
    return jax.lax.population_count((mask & (~mask + jnp.uint32(1))) - jnp.uint32(1)).astype(jnp.int32)


def holds(index: Index, entry: jax.Array, keys: Keys) -> jax.Array:
    """Whether the entry, which must be one, holds the key."""
    read = [a.at[entry].get(mode="promise_in_bounds") for a in (index.lo, index.hi, index.uids, index.rows)]
    return (read[0] == keys.lo) & (read[1] == keys.hi) & (read[2] == keys.uids) & (read[3] >= 0)


def _compare_fully(index: Index, keys: Keys, entry: jax.Array) -> jax.Array:
    """For UNSURE keys, compare each way of both buckets. A loop of no trips where there are none."""
    unsure = entry == UNSURE

    def way(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        w, found = state
        for bucket in hashing.buckets(keys, index.buckets):
            at = bucket * W + w
            found = jnp.where(unsure & holds(index, at, keys), at, found)
        return w + 1, found

    trips = jnp.where(unsure.any(), W, 0)
    found = jax.lax.while_loop(lambda s: s[0] < trips, way, (jnp.int32(0), entry))[1]
    return jnp.maximum(found, -1)


def _find_in_stash(index: Index, keys: Keys, valid: jax.Array, entry: jax.Array) -> jax.Array:
    def probe(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        k, found = state
        at = index.ways + k
        return k + 1, jnp.where(valid & holds(index, at, keys), at, found)

    return jax.lax.while_loop(lambda s: s[0] < index.stashed, probe, (jnp.int32(0), entry))[1]
