"""See pallas_kernels.pack_ids. The arithmetic of a word is shared.

Sizes: N ids, F frames.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from recis_core.pallas_kernels.pack_ids import (
    FRAME,
    LANES,
    WORDS,
    Packed,
    bits,
    check_packed,
    cut,
    minus,
    running_sum,
    window,
)


def pack_ids(hi: jax.Array, lo: jax.Array, count: jax.Array) -> Packed:
    """As the kernel, all frames side by side."""
    frames = -(-hi.shape[0] // FRAME)
    real = jnp.arange(frames * FRAME, dtype=jnp.int32).reshape(frames, FRAME) < count
    hi, lo = (jnp.where(real, jnp.pad(x, (0, frames * FRAME - x.shape[0])).reshape(frames, FRAME), 0) for x in (hi, lo))
    before = [jnp.concatenate([x[:, :1], x[:, :-1]], 1) for x in (hi, lo)]
    high, low = (jnp.where(real, x, 0) for x in minus(hi, lo, *before))
    widths = jnp.max(jnp.where(high != 0, 32 + bits(high), bits(low)), axis=1, initial=0)
    length = widths.sum(dtype=jnp.int32) * LANES
    return Packed(_words(high, low, widths), widths, hi[:, 0], lo[:, 0], count, length)


def _words(high: jax.Array, low: jax.Array, widths: jax.Array) -> jax.Array:
    """Every difference into every word of its frame that it reaches; then frames together."""
    frames = widths.shape[0]
    at = jnp.arange(WORDS, dtype=jnp.int32)[None, :]
    high, low = (x.reshape(frames, FRAME // LANES, LANES) for x in (high, low))

    def lay(k: jax.Array, words: jax.Array) -> jax.Array:
        mine = [jnp.tile(x[:, k], (1, WORDS // LANES)) for x in (high, low)]
        offset = k * widths[:, None] - at // LANES * 32
        return words | jnp.where(offset > -64, window(*mine, jnp.maximum(offset, -63)), jnp.uint32(0))

    words = jax.lax.fori_loop(0, FRAME // LANES, lay, jnp.zeros((frames, WORDS), jnp.uint32))
    length = (widths * LANES)[:, None]
    begin = (jnp.cumsum(length, axis=0, dtype=jnp.int32) - length) + at
    into = jnp.where(at < length, begin, frames * WORDS)
    return jnp.zeros(frames * WORDS, jnp.uint32).at[into.reshape(-1)].set(words.reshape(-1), mode="drop")


def unpack_ids(packed: Packed, *, size: int) -> tuple[jax.Array, jax.Array]:
    """As the kernel."""
    check_packed(packed, size)
    frames, at = packed.widths.shape[0], jnp.arange(FRAME, dtype=jnp.int32)[None, :]
    b = packed.widths[:, None]
    begin = jnp.cumsum(b * LANES, axis=0, dtype=jnp.int32) - b * LANES
    bit = (at // LANES) * b
    word = []
    for q in range(3):
        nth = bit // 32 + q
        place = jnp.where(nth < b, begin + nth * LANES + at % LANES, packed.words.shape[0])
        word.append(packed.words.at[place].get(mode="fill", fill_value=0))
    high, low = cut(*word, bit & 31, jnp.broadcast_to(b, bit.shape))
    ids = running_sum(high, low, packed.base_hi[:, None], packed.base_lo[:, None])
    real = jnp.arange(frames * FRAME, dtype=jnp.int32) < packed.count
    hi, lo = (jnp.where(real, x.reshape(-1), 0)[:size] for x in ids)
    return hi, lo
