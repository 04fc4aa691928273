"""A bucketed index as arrays, and the hash words that say where its keys belong.

    bucket 0   way 0  1  2 … W-1     entry = bucket · W + way
    bucket 1   way 0  1  2 … W-1
    …
    stash      keys that found no way, entries S·W and on; probed only when it holds any

The caller's Format has the constants of the hash.

Sizes: N keys, S buckets (a power of two), W ways, E = S·W + stash entries, R rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recis_core.pallas_kernels.operands import check_dtype, check_shape

MAX_WAYS = 16  # a match mask of two buckets is one 32-bit word
NOWHERE = np.int32(2**31 - 1)  # claims at rest


@dataclass(frozen=True)
class Format:
    """Constants of the hash and of placement."""

    a_salt: int
    b_salt: int
    tag_salt: int
    multiplier: int  # of the key's uid
    mix_1: int
    mix_2: int
    rounds: int
    chunk: int  # new keys placed at a time


class Keys(NamedTuple):
    """uint32 [N] each: the halves of 64-bit ids, and the number of the group (logical table) that an id belongs to."""

    lo: jax.Array
    hi: jax.Array
    uids: jax.Array


class Index(NamedTuple):
    """The keys' entries. rows < 0 means free; the other fields of a free entry are undefined.

    taken and claims are scratch, all 0 and all NOWHERE between calls. They are part of the index, so that no
    program has to clear memory of the index's size.
    """

    tags: jax.Array  # uint32 [S, W], fingerprints of the ways' keys
    lo: jax.Array  # uint32 [E]
    hi: jax.Array  # uint32 [E]
    uids: jax.Array  # uint32 [E]
    rows: jax.Array  # int32 [E]
    scores: jax.Array  # int32 [E]
    stamps: jax.Array  # int32 [E], step of the last touch
    free: jax.Array  # int32 [R], stack of erased rows
    free_count: jax.Array  # int32 []
    next_row: jax.Array  # int32 [], the first row never used
    stashed: jax.Array  # int32 [], entries S·W to S·W + stashed hold keys
    taken: jax.Array  # int32 [S]
    claims: jax.Array | None  # int32 [S], where ranks are found by integer scatters

    @property
    def buckets(self) -> int:
        return self.tags.shape[0]

    @property
    def ways(self) -> int:
        """Entries that are ways: the first of the stash."""
        return self.tags.shape[0] * self.tags.shape[1]

    @property
    def entries(self) -> int:
        return self.rows.shape[0]

    @property
    def used(self) -> jax.Array:
        """Rows in use, and so keys."""
        return self.next_row - self.free_count


def mix(h: jax.Array, form: Format) -> jax.Array:
    """MurmurHash3's 32-bit finalizer, by the format's multipliers."""
    h = h ^ (h >> jnp.uint32(16))
    h = h * jnp.uint32(form.mix_1)
    h = h ^ (h >> jnp.uint32(13))
    h = h * jnp.uint32(form.mix_2)
    return h ^ (h >> jnp.uint32(16))


def hash_word(keys: Keys, salt: int, form: Format) -> jax.Array:
    h = mix(keys.lo ^ jnp.uint32(salt), form)
    h = mix(h + keys.hi, form)
    return mix(h + keys.uids * jnp.uint32(form.multiplier), form)


def candidates(keys: Keys, buckets: int, form: Format) -> tuple[jax.Array, jax.Array]:
    """Both candidate buckets of each key, int32 [N]."""
    a, b = (hash_word(keys, salt, form) & jnp.uint32(buckets - 1) for salt in (form.a_salt, form.b_salt))
    return a.astype(jnp.int32), b.astype(jnp.int32)


def tags(keys: Keys, form: Format) -> jax.Array:
    """Fingerprints, uint32 [N]."""
    return hash_word(keys, form.tag_salt, form)


def signed_order(hi: jax.Array) -> jax.Array:
    """High halves so that unsigned order of (hi, lo) is the order of signed ids; its own inverse."""
    return hi ^ jnp.uint32(0x80000000)


def check_keys(keys: Keys) -> None:
    for name, words in keys._asdict().items():
        check_shape(f"keys.{name}", words, keys.lo.shape[:1])
        check_dtype(f"keys.{name}", words, ("uint32",))


def check_index(index: Index) -> None:
    check_shape("index.tags", index.tags, (None, None))
    count, ways = index.tags.shape
    if count < 1 or count & (count - 1) or ways < 1 or ways & (ways - 1) or ways > MAX_WAYS:
        raise ValueError(f"index.tags must be [S, W], powers of two, W at most {MAX_WAYS}; got {index.tags.shape}.")
    for name in ("tags", "lo", "hi", "uids"):
        check_dtype(f"index.{name}", getattr(index, name), ("uint32",))
    for name in ("rows", "scores", "stamps", "stashed"):
        check_dtype(f"index.{name}", getattr(index, name), ("int32",))
    for name in ("lo", "hi", "uids", "scores", "stamps"):
        check_shape(f"index.{name}", getattr(index, name), index.rows.shape)
    if index.entries < index.ways:
        raise ValueError(f"index.rows must hold at least S·W = {index.ways} entries; got {index.entries}.")
