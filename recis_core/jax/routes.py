"""Keys to the shards that own them, rows back, and gradients by key to the owners.

Each shard sends every owner a bucket of one size, C keys: what does not fit is counted, and reads as zeros.

Sizes: N ids of a shard, U unique keys of a shard, G shards, C keys of a bucket, D dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from recis_core.backends import placement
from recis_core.backends.jax_backend import hashing
from recis_core.backends.jax_backend.gradient import Terms, sum_in_order
from recis_core.backends.jax_backend.loops import Missing
from recis_core.backends.jax_backend.state import Constants
from recis_core.backends.jax_backend.xla_loops import XLA_LOOPS
from recis_core.jax.asking import Asked
from recis_core.jax.layout import Layout
from recis_core.pallas_kernels.index import Keys


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["place", "inverse", "order", "offsets", "count", "overflowed"],
    meta_fields=["size", "axis"],
)
@dataclass(frozen=True)
class Route:
    """Where a shard's unique keys went."""

    place: jax.Array  # int32 [N], place of each unique key in the buckets; G·C for none
    inverse: jax.Array  # int32 [N], each id's key; N for none
    order: jax.Array  # int32 [N], ids by key
    offsets: jax.Array  # int32 [N + 1], each key's in it
    count: jax.Array  # int32 [], U
    overflowed: jax.Array  # int32 [], ids whose keys did not fit
    size: tuple[int, int]  # G, C
    axis: str

    def answered(self, values: jax.Array) -> jax.Array:
        """The owners' rows float32 [G·C, D] to the ids that asked, [N, D]; zeros for ids that were not sent."""
        back = _exchanged(values, self.size, self.axis)
        unique = back.at[self.place].get(mode="fill", fill_value=0)
        return unique.at[self.inverse].get(mode="fill", fill_value=0)

    def collected(self, grads: jax.Array) -> jax.Array:
        """Gradients float32 [N, D] of a shard's ids, summed by key, to the owners: [G·C, D], by sender."""
        position = jnp.arange(grads.shape[0], dtype=jnp.int32)
        sums = sum_in_order(Terms(grads, position, None), self.order, self.offsets, self.count, XLA_LOOPS)
        return _exchanged(self._filled(sums), self.size, self.axis)

    def _filled(self, values: jax.Array) -> jax.Array:
        """Values of unique keys [N, …] in their buckets, [G·C, …]."""
        shards, bucket = self.size
        buckets = jnp.zeros((shards * bucket, *values.shape[1:]), values.dtype)
        return buckets.at[self.place].set(values, mode="drop")


def sent(asked: Asked, constants: Constants, layout: Layout, bucket: int) -> tuple[Route, Asked]:
    """A shard's unique keys to their owners: the route, and what this shard was asked, [G·C]. bucket: C."""
    unique = XLA_LOOPS.dedup(asked.keys, asked.valid)
    route = _route(unique, layout, bucket)
    lines = jnp.stack([*unique.keys, jnp.ones_like(unique.keys.lo)], 1)
    got = _exchanged(route._filled(lines), route.size, route.axis)
    keys = Keys(got[:, 0], got[:, 1], got[:, 2])
    ordinals = (keys.uids[:, None] == constants.uids).argmax(1).astype(jnp.int32)
    return route, Asked(keys, ordinals, got[:, 3] == 1)


def _route(unique: Missing, layout: Layout, bucket: int) -> Route:
    size = unique.position.shape[0]
    place = _places(owners(unique.keys, layout.size), unique.count, layout.size, bucket)
    inside = unique.position < size
    inverse = jnp.full(size, size, jnp.int32).at[unique.position].set(unique.group, mode="drop")
    counts = jnp.zeros(size, jnp.int32).at[jnp.where(inside, unique.group, size)].add(1, mode="drop")
    offsets = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(counts, dtype=jnp.int32)])
    lost = (place == layout.size * bucket) & (jnp.arange(size) < unique.count)
    overflowed = jnp.where(lost, counts, 0).sum(dtype=jnp.int32)
    return Route(place, inverse, unique.position, offsets, unique.count, overflowed, (layout.size, bucket), layout.axis)


def owners(keys: Keys, shards: int) -> jax.Array:
    """int32 [N]: the shard of each key, by its slice of the hash; as recis_core.exchange's owners."""
    return hashing.slices(keys) * shards >> placement.SLICE_BITS


def _places(owner: jax.Array, count: jax.Array, shards: int, bucket: int) -> jax.Array:
    """The owner's bucket, and in it the key's rank among the owner's: keys keep their order."""
    inside = jnp.arange(owner.shape[0], dtype=jnp.int32) < count
    mine = (owner[:, None] == jnp.arange(shards, dtype=jnp.int32)) & inside[:, None]
    ranks = jnp.cumsum(mine, 0, dtype=jnp.int32) - 1
    rank = jnp.take_along_axis(ranks, owner[:, None], 1)[:, 0]
    return jnp.where(inside & (rank < bucket), owner * bucket + rank, shards * bucket)


def _exchanged(buckets: jax.Array, size: tuple[int, int], axis: str) -> jax.Array:
    """[G·C, …] by receiver -> [G·C, …] by sender."""
    shaped = buckets.reshape(*size, *buckets.shape[1:])
    return jax.lax.all_to_all(shaped, axis, 0, 0).reshape(buckets.shape)
