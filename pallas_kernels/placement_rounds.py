"""Rounds in which keys request ways of buckets, without atomics.

XLA sorts the requests by bucket; a key's rank is the number of the W requests before it with the same bucket, and the
last request that a bucket accepts writes the bucket's count.

    ask      lanes  0 1 2 3 4 5      buckets  7 2 7 7 2 9
    sort     2:1 2:4 | 7:0 7:2 7:3 | 9:5
    settle   rank  0 1 | 0 1 2 | 0       accepted while rank < quota; bucket 7 notes 3, bucket 9 notes 1

Reads    a round 60 bytes a lane, and 4·W of neighbours from L1.
Writes   a round 16 bytes a lane, and 4 a bucket that accepted.
Ceiling  launches: two and XLA's sort, in at most two rounds at a load below .75.

Sizes: M lanes, S buckets, W ways.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from recis_core.pallas_kernels.bucket_offers import Offer, load_offer, nth_way
from recis_core.pallas_kernels.launch import launch
from recis_core.pallas_kernels.order import sorted_with_position
from recis_core.pallas_kernels.tuning import KeyConfig

Ref = Any


class Asking(NamedTuple):
    """Each lane's request, int32 [M]: a bucket, S for none; how many requests it accepts; its ways given before."""

    bucket: jax.Array
    quota: jax.Array
    taken: jax.Array


class Game(NamedTuple):
    """The constant inputs of all rounds."""

    both: tuple[jax.Array, jax.Array]  # int32 [M], candidate buckets
    offers: tuple[Offer, Offer]
    pending: jax.Array  # bool [M]
    scores: jax.Array | None  # int32 [E], where victims are offered: the lower next one is preferred


def play(
    game: Game, taken: jax.Array, *, rounds: int, ways: int, config: KeyConfig, interpret: bool
) -> tuple[jax.Array, jax.Array]:
    """(taken int32 [S], all zeros again; the entry that each pending lane won, or -1).

    In each round a bucket gives at most half of what it has left, rounded up, in the last one all.
    """
    lanes, rest = game.pending.shape[0], taken.shape[0]
    run = partial(launch, programs=-(-lanes // config.keys), num_warps=config.num_warps, interpret=interpret)
    column = jax.ShapeDtypeStruct((lanes,), jnp.int32)
    ask = partial(ask_kernel, rounds=rounds, ways=ways, config=config)
    settle = partial(settle_kernel, ways=ways, config=config)
    changed = (jax.ShapeDtypeStruct(taken.shape, jnp.int32), column)

    def turn(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        r, taken, entry = state
        waiting = game._replace(pending=game.pending & (entry < 0))
        asking = Asking(*run(ask, r.reshape(1), waiting, taken, out_shape=tuple(Asking(column, column, column))))
        bucket, by = sorted_with_position(asking.bucket.astype(jnp.uint32))
        fixed = (bucket.astype(jnp.int32), by, asking, game.both, game.offers)
        flat = len(jax.tree.leaves(fixed))
        taken, entry = run(settle, *fixed, taken, entry, out_shape=changed, aliases={flat: 0, flat + 1: 1})
        # A round without requests is the last: all pending lanes found their buckets empty.
        return jnp.where(bucket[0] >= rest, rounds, r + 1), taken, entry

    def unfinished(state: tuple[jax.Array, ...]) -> jax.Array:
        return (state[0] < rounds) & (game.pending & (state[2] < 0)).any()

    start = (jnp.int32(0), taken, jnp.full((lanes,), -1, jnp.int32))
    _, taken, entry = jax.lax.while_loop(unfinished, turn, start)
    return taken.at[jnp.where(entry >= 0, entry // ways, rest)].set(0, mode="drop"), entry


def ask_kernel(
    r: Ref, game: Any, taken: Ref, bucket: Ref, quota: Ref, given: Ref, *, rounds: int, ways: int, config: KeyConfig
) -> None:
    """One program: `config.keys` lanes choose between their two buckets, by the counts when the round began."""
    at = pl.program_id(0) * config.keys + jnp.arange(config.keys, dtype=jnp.int32)
    here = at < bucket.shape[0]
    waiting = plt.load(game.pending.at[at], mask=here, other=False)
    a, b = (plt.load(buckets.at[at], mask=here, other=0) for buckets in game.both)
    used_a, used_b = (plt.load(taken.at[x], mask=waiting, other=0) for x in (a, b))
    offer_a, offer_b = (load_offer(offer, at, here) for offer in game.offers)
    left_a, left_b = offer_a.limit - used_a, offer_b.limit - used_b
    second = left_a < left_b
    if game.scores is not None:
        score_a, score_b = (
            plt.load(game.scores.at[x * ways + nth_way(offer, jnp.minimum(used, ways - 1))], mask=waiting, other=0)
            for x, offer, used in ((a, offer_a, used_a), (b, offer_b, used_b))
        )
        second = (left_b > 0) & ((left_a <= 0) | (score_b < score_a))
    left = jnp.where(second, left_b, left_a)
    last = plt.load(r.at[jnp.int32(0)]) == rounds - 1
    most = jnp.where(last, left, (left + 1) >> 1)
    asks = waiting & (most > 0)
    plt.store(bucket.at[at], jnp.where(asks, jnp.where(second, b, a), taken.shape[0]), mask=here)
    plt.store(quota.at[at], most, mask=here)
    plt.store(given.at[at], jnp.where(second, used_b, used_a), mask=here)


def settle_kernel(
    sorted_bucket: Ref, by: Ref, asking: Any, both: Any, offers: Any, _: Ref, __: Ref, taken: Ref, entry: Ref,
    *, ways: int, config: KeyConfig,
) -> None:  # fmt: skip
    """One program: `config.keys` requests in bucket order; accepted ones get their entries."""
    at = pl.program_id(0) * config.keys + jnp.arange(config.keys, dtype=jnp.int32)
    here = at < by.shape[0]
    bucket = plt.load(sorted_bucket.at[at], mask=here, other=taken.shape[0])
    asks = bucket < taken.shape[0]
    lane = plt.load(by.at[at], mask=here, other=0)
    rank = _rank(sorted_bucket, at, bucket, ways)
    quota, given = (plt.load(x.at[lane], mask=asks, other=0) for x in (asking.quota, asking.taken))
    won = asks & (rank < quota)
    first = plt.load(both[0].at[lane], mask=asks, other=0) == bucket
    of_a, of_b = (load_offer(offer, lane, won) for offer in offers)
    offer = jax.tree.map(lambda x, y: jnp.where(first, x, y), of_a, of_b)
    # Lanes that won nothing point past the end, for interpret mode writes masked lanes back.
    into = jnp.where(won, lane, entry.shape[0])
    plt.store(entry.at[into], bucket * ways + nth_way(offer, given + rank), mask=won)
    following = plt.load(sorted_bucket.at[at + 1], mask=at + 1 < by.shape[0], other=-1)
    last = won & ((following != bucket) | (rank + 1 == quota))
    plt.store(taken.at[jnp.where(last, bucket, taken.shape[0])], given + rank + 1, mask=last)


def _rank(sorted_bucket: Ref, at: jax.Array, bucket: jax.Array, ways: int) -> jax.Array:
    """The number of requests before each with the same bucket, at most `ways`, which no quota reaches."""
    rank = jnp.zeros_like(at)
    for back in range(1, ways + 1):
        before = plt.load(sorted_bucket.at[at - back], mask=(at >= back) & (at < sorted_bucket.shape[0]), other=-1)
        rank = rank + jnp.where(before == bucket, 1, 0)
    return rank
