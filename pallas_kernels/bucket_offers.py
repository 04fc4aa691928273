"""Lists of the ways that buckets offer, in the order of use: free ways, or victims.

A list of W ≤ 16 ways is W nibbles in two words, so that a kernel reads the n-th by a shift.

Reads    8·W bytes of rows a lane; for victims 40·W more of what the ways hold, each W times, mostly from L1.
Writes   24 bytes a lane.

Sizes: M lanes, W ways, E entries.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from recis_core.pallas_kernels.index import Index, signed_order
from recis_core.pallas_kernels.launch import launch
from recis_core.pallas_kernels.tuning import KeyConfig

Ref = Any


class Offer(NamedTuple):
    """The list of one candidate bucket of each lane, int32 [M]: its length, its first 8 ways, its other ways."""

    limit: jax.Array
    low: jax.Array
    high: jax.Array


class Holder(NamedTuple):
    """The order of victims: int32 score, then the key."""

    scores: Any
    uids: Any
    hi: Any
    lo: Any


def free_ways(
    index: Index, both: tuple[jax.Array, jax.Array], *, config: KeyConfig, interpret: bool
) -> tuple[Offer, Offer]:
    """Free ways by number, of each lane's two buckets."""
    return _offers(free_kernel, both, index.rows, ways=index.tags.shape[1], config=config, interpret=interpret)


def victims(
    index: Index, both: tuple[jax.Array, jax.Array], pinned_from: jax.Array, *, config: KeyConfig, interpret: bool
) -> tuple[Offer, Offer]:
    """Occupied ways stamped before pinned_from, by (score, uid, signed id)."""
    holder = Holder(index.scores, index.uids, index.hi, index.lo)
    operands = (index.rows, index.stamps, pinned_from.reshape(1), holder)
    return _offers(victims_kernel, both, *operands, ways=index.tags.shape[1], config=config, interpret=interpret)


def _offers(kernel: Any, both: Any, *operands: Any, ways: int, config: KeyConfig, interpret: bool) -> Any:
    lanes = both[0].shape[0]
    column = jax.ShapeDtypeStruct((lanes,), jnp.int32)
    return launch(
        partial(kernel, ways=ways, config=config), both, *operands,
        programs=-(-lanes // config.keys), num_warps=config.num_warps, interpret=interpret,
        out_shape=(Offer(column, column, column), Offer(column, column, column)),
    )  # fmt: skip


def free_kernel(both: Any, rows: Ref, *out: Offer, ways: int, config: KeyConfig) -> None:
    """One program: `config.keys` lanes."""
    at, here = _lanes(both, config)
    for buckets, offer in zip(both, out, strict=True):
        entry, mask = _entries(buckets, at, here, ways)
        usable = mask & (plt.load(rows.at[entry], mask=mask, other=0) < 0)
        bits = jnp.sum(jnp.where(usable, 1 << jnp.arange(ways, dtype=jnp.int32)[None, :], 0), axis=1, dtype=jnp.int32)
        below = (jnp.int32(1) << jnp.arange(ways, dtype=jnp.int32)) - 1
        _store(offer, at, here, usable, jax.lax.population_count(bits[:, None] & below[None, :]))


def victims_kernel(
    both: Any, rows: Ref, stamps: Ref, pinned_from: Ref, holder: Any, *out: Offer, ways: int, config: KeyConfig
) -> None:
    """One program: `config.keys` lanes; a way's place is how many usable ones come before it."""
    at, here = _lanes(both, config)
    limit = plt.load(pinned_from.at[jnp.int32(0)])

    def usable(entry: jax.Array, mask: jax.Array) -> jax.Array:
        row = plt.load(rows.at[entry], mask=mask, other=-1)
        return mask & (row >= 0) & (plt.load(stamps.at[entry], mask=mask, other=0) < limit)

    for buckets, offer in zip(both, out, strict=True):
        entry, mask = _entries(buckets, at, here, ways)
        mine, bucket = _held(holder, entry, mask), plt.load(buckets.at[at], mask=here, other=0)

        def count(v: jax.Array, place: jax.Array, mine: Holder = mine, bucket: jax.Array = bucket) -> jax.Array:
            other = bucket * ways + v
            earlier = _before(jax.tree.map(lambda x: x[:, None], _held(holder, other, here)), mine)
            return place + jnp.where(usable(other, here)[:, None] & earlier, 1, 0)

        place = jax.lax.fori_loop(0, ways, count, jnp.zeros_like(entry))
        _store(offer, at, here, usable(entry, mask), place)


def nth_way(limit_low_high: Offer, nth: jax.Array) -> jax.Array:
    """The way in place nth (0 to 15) of each list, already loaded."""
    word = jnp.where(nth < 8, limit_low_high.low, limit_low_high.high)
    return (word >> ((nth & 7) << 2)) & 15


def load_offer(offer: Any, at: jax.Array, mask: jax.Array) -> Offer:
    return Offer(*(plt.load(words.at[at], mask=mask, other=0) for words in offer))


def _lanes(both: Any, config: KeyConfig) -> tuple[jax.Array, jax.Array]:
    at = pl.program_id(0) * config.keys + jnp.arange(config.keys, dtype=jnp.int32)
    return at, at < both[0].shape[0]


def _entries(buckets: Ref, at: jax.Array, here: jax.Array, ways: int) -> tuple[jax.Array, jax.Array]:
    """Entries [lanes, W] of the lanes' buckets, and which are real."""
    way = jnp.arange(ways, dtype=jnp.int32)
    bucket = plt.load(buckets.at[at], mask=here, other=0)
    return bucket[:, None] * ways + way[None, :], here[:, None] & (way >= 0)[None, :]


def _held(holder: Any, entry: jax.Array, mask: jax.Array) -> Holder:
    held = Holder(*(plt.load(field.at[entry], mask=mask, other=0) for field in holder))
    return held._replace(hi=signed_order(held.hi))


def _before(x: Holder, y: Holder) -> jax.Array:
    """x < y, field by field."""
    less = x.lo < y.lo
    for p, q in ((x.hi, y.hi), (x.uids, y.uids), (x.scores, y.scores)):
        less = (p < q) | ((p == q) & less)
    return less


def _store(offer: Any, at: jax.Array, here: jax.Array, usable: jax.Array, place: jax.Array) -> None:
    """Write each usable way into the nibble of its place; nibbles are disjoint, so their sum is their union."""
    way = jnp.zeros_like(place) + jnp.arange(place.shape[1], dtype=jnp.int32)[None, :]
    nibble = way << ((place & 7) << 2)
    low, high = (jnp.where(usable & ((place < 8) == first), nibble, 0) for first in (True, False))
    for words, values in zip(offer, (jnp.where(usable, 1, 0), low, high), strict=True):
        plt.store(words.at[at], jnp.sum(values, axis=1, dtype=jnp.int32), mask=here)
