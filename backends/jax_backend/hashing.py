"""Hash words of keys: pallas_kernels.index with the constants of backends.placement.

Sizes: N keys.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recis_core.backends import placement
from recis_core.pallas_kernels import index
from recis_core.pallas_kernels.index import Format, Keys

FORM = Format(
    a_salt=placement.A_SALT,
    b_salt=placement.B_SALT,
    tag_salt=0x6A09E667,  # of the fingerprint that probing compares first; not part of the placement format
    multiplier=placement.TABLE_MULTIPLIER,
    mix_1=placement.MIX_1,
    mix_2=placement.MIX_2,
    rounds=placement.ROUNDS,
    chunk=placement.CHUNK,
)


def split(ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(lo, hi) of uint32 [N, 2], as bridge.dlpack.ids_to_jax gives int64 ids."""
    return ids[:, 0], ids[:, 1]


def buckets(keys: Keys, count: int) -> tuple[jax.Array, jax.Array]:
    """Both candidate buckets of each key, int32, of `count` (a power of two)."""
    return index.candidates(keys, count, FORM)


def tags(keys: Keys) -> jax.Array:
    """Fingerprints, uint32."""
    return index.tags(keys, FORM)


def slices(keys: Keys) -> jax.Array:
    """The 16-bit slice of each key, int32."""
    word = index.hash_word(keys, placement.SLICE_SALT, FORM) & jnp.uint32((1 << placement.SLICE_BITS) - 1)
    return word.astype(jnp.int32)
