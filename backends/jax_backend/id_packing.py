"""Ids as bytes and back, to be traced; backends.interface.Backend.pack_ids has the format.

Sizes: P ids (padded), F = P/128 frames.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from recis_core.backends.jax_backend.loops import Loops
from recis_core.pallas_kernels.pack_ids import Packed


class Parts(NamedTuple):
    """The sections of the bytes; of `words` the first `length` count."""

    bases: jax.Array  # uint32 [F, 2], low word first
    widths: jax.Array  # uint8 [F]
    words: jax.Array  # uint32 [F·256]
    length: jax.Array  # int32 []


def pack_ids(ids: jax.Array, count: jax.Array, *, loops: Loops) -> Parts:
    """ids: uint32 [P, 2], low word first."""
    packed = loops.pack_ids(ids[:, 1], ids[:, 0], count)
    bases = jnp.stack([packed.base_lo, packed.base_hi], 1)
    return Parts(bases, packed.widths.astype(jnp.uint8), packed.words, packed.length)


def unpack_ids(parts: Parts, count: jax.Array, *, size: int, loops: Loops) -> jax.Array:
    """uint32 [P, 2]; P = size."""
    bases, widths, words, length = parts
    packed = Packed(words, widths.astype(jnp.int32), bases[:, 1], bases[:, 0], count, length)
    hi, lo = loops.unpack_ids(packed, size=size)
    return jnp.stack([lo, hi], 1)
