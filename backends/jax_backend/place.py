"""Placement of new ids: backends.placement's rounds in jnp, free ways first, then victims.

Ranks inside a bucket come from integer scatter-min into scratch of the index: no sort, and the
result depends on no order of execution.

Sizes: M lanes of a chunk, S buckets, W ways.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from recis_core.backends import placement
from recis_core.backends.jax_backend import hashing
from recis_core.backends.jax_backend.find import mask_of
from recis_core.pallas_kernels.index import NOWHERE, Index, Keys, signed_order

W = placement.WAYS


class Offers(Protocol):
    """Usable ways of both candidate buckets of each lane in a phase."""

    limit: jax.Array  # int32 [M, 2], usable ways

    def prefers_b(self, used: jax.Array, left: jax.Array) -> jax.Array: ...

    def way(self, side: jax.Array, nth: jax.Array) -> jax.Array: ...


class FreeWays(NamedTuple):
    mask: jax.Array  # uint32 [M, 2]
    limit: jax.Array  # int32 [M, 2]

    def prefers_b(self, used: jax.Array, left: jax.Array) -> jax.Array:
        return left[:, 0] < left[:, 1]

    def way(self, side: jax.Array, nth: jax.Array) -> jax.Array:
        """The nth (from 0) free way of the bucket on that side, by number."""
        mask = pick(self.mask, side)
        bits = mask[:, None] >> jnp.arange(W, dtype=jnp.uint32) & 1
        return (jnp.cumsum(bits.astype(jnp.int32), 1) <= nth[:, None]).sum(1, dtype=jnp.int32)


class Victims(NamedTuple):
    """Ways in the order of eviction, with the fields [M, 2, W] of the keys there, read once."""

    limit: jax.Array
    ways: jax.Array
    scores: jax.Array
    uids: jax.Array
    hi: jax.Array
    lo: jax.Array
    rows: jax.Array
    stamps: jax.Array

    def prefers_b(self, used: jax.Array, left: jax.Array) -> jax.Array:
        following = jnp.take_along_axis(self.scores, jnp.minimum(used, W - 1)[..., None], 2)[..., 0]
        b_only = (left[:, 0] == 0) & (left[:, 1] > 0)
        return b_only | ((left > 0).all(1) & (following[:, 1] < following[:, 0]))

    def way(self, side: jax.Array, nth: jax.Array) -> jax.Array:
        return self.at(self.ways, side, nth)

    def at(self, field: jax.Array, side: jax.Array, nth: jax.Array) -> jax.Array:
        return jnp.take_along_axis(pick(field, side), jnp.minimum(nth, W - 1)[:, None], 1)[:, 0]


class Placed(NamedTuple):
    """entry: -1 where a lane got none. side, nth: the bucket, and the place in its list of ways."""

    entry: jax.Array  # int32 [M]
    side: jax.Array  # int32 [M]
    nth: jax.Array  # int32 [M]


def candidates(index: Index, keys: Keys) -> jax.Array:
    return jnp.stack(hashing.buckets(keys, index.buckets), 1)


def free_ways(index: Index, buckets: jax.Array) -> FreeWays:
    mask = mask_of(_read(index.rows, buckets) < 0)
    return FreeWays(mask, jax.lax.population_count(mask).astype(jnp.int32))


def victims(index: Index, buckets: jax.Array, pinned_from: jax.Array) -> Victims:
    """Occupied unpinned ways by (score, uid, signed id)."""
    rows, stamps, scores, uids, hi, lo = (
        _read(x, buckets) for x in (index.rows, index.stamps, index.scores, index.uids, index.hi, index.lo)
    )
    usable = (rows >= 0) & (stamps < pinned_from)
    ways = jax.lax.broadcasted_iota(jnp.int32, rows.shape, 2)
    operands = ((~usable).astype(jnp.int32), scores, uids, signed_order(hi), lo, ways, rows, stamps)
    _, scores, uids, hi, lo, ways, rows, stamps = jax.lax.sort(operands, dimension=2, num_keys=6, is_stable=False)
    limit = usable.sum(2, dtype=jnp.int32)
    return Victims(limit, ways, scores, uids, signed_order(hi), lo, rows, stamps)


def _read(array: jax.Array, buckets: jax.Array) -> jax.Array:
    """[M, 2] buckets -> their ways' fields [M, 2, W]."""
    at = buckets[..., None] * W + jnp.arange(W, dtype=jnp.int32)
    return array.at[at].get(mode="promise_in_bounds")


def pick(both: jax.Array, side: jax.Array) -> jax.Array:
    """[M, 2, ...] by side [M] -> [M, ...]."""
    return jnp.where(side.reshape(-1, *[1] * (both.ndim - 2)) == 1, both[:, 1], both[:, 0])


def run_rounds(index: Index, buckets: jax.Array, offers: Offers, pending: jax.Array) -> tuple[Index, Placed]:
    """In each round a bucket takes at most half of what it has left, in the last one all."""
    nowhere = jnp.full(pending.shape, -1, jnp.int32)
    start = (jnp.int32(0), index.taken, index.claims, pending, Placed(nowhere, nowhere, nowhere))

    def unfinished(state: tuple) -> jax.Array:
        return (state[0] < placement.ROUNDS) & state[3].any()

    def play(state: tuple) -> tuple:
        r, taken, claims, pending, placed = state
        used = taken.at[buckets].get(mode="promise_in_bounds")
        left = offers.limit - used
        side = offers.prefers_b(used, left).astype(jnp.int32)
        bucket, room = pick(buckets, side), pick(left, side)
        quota = jnp.where(r == placement.ROUNDS - 1, room, (room + 1) // 2)
        claims, rank = rank_within(claims, bucket, pending & (quota > 0))
        won = pending & (rank < quota)
        nth = pick(used, side) + rank
        entry = bucket * W + offers.way(side, nth)
        placed = Placed(*(jnp.where(won, new, old) for new, old in zip((entry, side, nth), placed, strict=True)))
        taken = taken.at[jnp.where(won, bucket, index.buckets)].add(1, mode="drop")
        return r + 1, taken, claims, pending & ~won, placed

    _, taken, claims, _, placed = jax.lax.while_loop(unfinished, play, start)
    taken = taken.at[jnp.where(placed.entry >= 0, placed.entry // W, index.buckets)].set(0, mode="drop")
    return index._replace(taken=taken, claims=claims), placed


def rank_within(claims: jax.Array, bucket: jax.Array, asking: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Position of each asking lane among those of its bucket, at most W, which no quota reaches."""
    lane = jnp.arange(bucket.shape[0], dtype=jnp.int32)

    def unfinished(state: tuple) -> jax.Array:
        return (state[0] < W) & state[2].any()

    def claim(state: tuple) -> tuple:
        k, claims, waiting, rank = state
        at = jnp.where(waiting, bucket, claims.shape[0])
        claims = claims.at[at].min(lane, mode="drop")
        least = claims.at[at].get(mode="fill", fill_value=NOWHERE)
        first = waiting & (least == lane)
        claims = claims.at[jnp.where(least < NOWHERE, at, claims.shape[0])].set(NOWHERE, mode="drop")
        return k + 1, claims, waiting & ~first, jnp.where(first, k, rank)

    start = (jnp.int32(0), claims, asking, jnp.full(bucket.shape, W, jnp.int32))
    _, claims, _, rank = jax.lax.while_loop(unfinished, claim, start)
    return claims, rank
