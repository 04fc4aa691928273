"""64-bit ids in few bits: differences of neighbours, in frames of 128, each of its own width.

    ids     base  +d1 +d2 … +d127            differences modulo 2⁶⁴, so any ids pack exactly, sorted ones in few bits
    lanes   0 1 2 3 0 1 2 3 …                difference i is number i // 4 of lane i % 4
    words   lane 0's first, lane 1's first, …, lane 0's second, …       width words a lane, low bits first

A frame of width b takes 4·b uint32 words; frames follow each other without gaps. This is a wire format: bases (frames'
first ids), widths and words hold all ids; a word's bytes are in the array's order.

Reads    packing 16 bytes an id twice and, a word, as many ids as it holds, from L1; unpacking the words, 12 a frame.
Writes   packing the words and 12 bytes a frame; unpacking 8 bytes an id.
Ceiling  memory bandwidth over 8·N bytes and the words; packing at widths below 4 by arithmetic.

Sizes: N ids, F = ⌈N/128⌉ frames.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from recis_core.pallas_kernels.launch import launch
from recis_core.pallas_kernels.operands import check_dtype, check_shape
from recis_core.pallas_kernels.tuning import FrameConfig, frame_config

FRAME, LANES = 128, 4
WORDS = 256  # of a frame of width 64
Ref = Any


class Packed(NamedTuple):
    words: jax.Array  # uint32 [F·256], of which the first `length` say something
    widths: jax.Array  # int32 [F], bits of a frame's largest difference, 0 to 64
    base_hi: jax.Array  # uint32 [F]
    base_lo: jax.Array  # uint32 [F]
    count: jax.Array  # int32 [], ids
    length: jax.Array  # int32 [], words


def pack_ids(
    hi: jax.Array, lo: jax.Array, count: jax.Array, *, config: FrameConfig | None = None, interpret: bool = False
) -> Packed:
    """Pack the first `count` ids; what lies behind is padding and takes no bits.

    Args:
      hi, lo: uint32 [N], the halves of 64-bit ids, signed or not, in any order.
      count: int32 [].

    Raises:
      TypeError, ValueError: a dtype or a shape is wrong.

    As SIMD-BP128: Lemire & Boytsov 2015, arXiv:1209.2137.
    """
    check_ids(hi, lo, count)
    frames = -(-hi.shape[0] // FRAME)
    column, words = _column(frames, jnp.uint32), _column(frames * WORDS, jnp.uint32)
    if frames == 0:
        return Packed(*(jnp.zeros(0, x) for x in (jnp.uint32, jnp.int32, jnp.uint32, jnp.uint32)), count, jnp.int32(0))
    config = config or frame_config()
    run = partial(launch, programs=frames, num_warps=config.num_warps, interpret=interpret)
    ids = (hi, lo, count.reshape(1))
    widths, base_hi, base_lo = run(width_kernel, *ids, out_shape=(_column(frames, jnp.int32), column, column))
    ends = jnp.cumsum(widths * LANES, dtype=jnp.int32)
    packed = run(pack_kernel, *ids, widths, ends, out_shape=words)
    used = jnp.arange(frames * WORDS, dtype=jnp.int32) < ends[-1]
    return Packed(jnp.where(used, packed, 0), widths, base_hi, base_lo, count, ends[-1])


def unpack_ids(
    packed: Packed, *, size: int, config: FrameConfig | None = None, interpret: bool = False
) -> tuple[jax.Array, jax.Array]:
    """(hi, lo) uint32 [size] of what pack_ids gave; zeros past packed.count.

    Raises:
      TypeError, ValueError: a dtype or a shape is wrong, or `size` is not that of as many frames.
    """
    check_packed(packed, size)
    column = _column(size, jnp.uint32)
    if size == 0:
        return jnp.zeros(0, jnp.uint32), jnp.zeros(0, jnp.uint32)
    ends = jnp.cumsum(packed.widths * LANES, dtype=jnp.int32)
    operands = (packed.words, packed.widths, ends, packed.base_hi, packed.base_lo, packed.count.reshape(1))
    config = config or frame_config()
    return launch(
        unpack_kernel, *operands, programs=packed.widths.shape[0], out_shape=(column, column),
        num_warps=config.num_warps, interpret=interpret,
    )  # fmt: skip


def _column(size: int, dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((size,), dtype)


def width_kernel(hi: Ref, lo: Ref, count: Ref, widths: Ref, base_hi: Ref, base_lo: Ref) -> None:
    """One program: a frame's width and base."""
    frame = pl.program_id(0)
    high, low = _difference(hi, lo, count, frame, jnp.arange(FRAME, dtype=jnp.int32))
    plt.store(widths.at[frame], jnp.max(jnp.where(high != 0, 32 + bits(high), bits(low))))
    inside = frame * FRAME < plt.load(count.at[jnp.int32(0)])
    for base, words in ((base_hi, hi), (base_lo, lo)):
        first = plt.load(words.at[frame * FRAME])
        plt.store(base.at[frame], jnp.where(inside, first, jnp.zeros_like(first)))


def pack_kernel(hi: Ref, lo: Ref, count: Ref, widths: Ref, ends: Ref, words: Ref) -> None:
    """One program: a frame's words, each of which gathers the differences that it holds a part of."""
    frame = pl.program_id(0)
    b = plt.load(widths.at[frame])
    at = jnp.arange(WORDS, dtype=jnp.int32)
    lane, begin = at & (LANES - 1), (at // LANES) * 32
    first = begin // jnp.maximum(b, 1)

    def gather(t: jax.Array, word: jax.Array) -> jax.Array:
        nth = first + t
        high, low = _difference(hi, lo, count, frame, jnp.minimum(nth, FRAME // LANES - 1) * LANES + lane)
        return word | jnp.where(nth < FRAME // LANES, window(high, low, nth * b - begin), jnp.uint32(0))

    trips = jnp.where(b > 0, 31 // jnp.maximum(b, 1) + 2, 0)
    word = jax.lax.fori_loop(0, trips, gather, jnp.zeros((WORDS,), jnp.uint32))
    inside = at < b * LANES
    into = jnp.where(inside, plt.load(ends.at[frame]) - b * LANES + at, words.shape[0])
    plt.store(words.at[into], word, mask=inside)


def unpack_kernel(words: Ref, widths: Ref, ends: Ref, base_hi: Ref, base_lo: Ref, count: Ref, hi: Ref, lo: Ref) -> None:
    """One program: a frame's ids."""
    frame = pl.program_id(0)
    b, at = plt.load(widths.at[frame]), jnp.arange(FRAME, dtype=jnp.int32)
    begin = plt.load(ends.at[frame]) - b * LANES
    bit = (at // LANES) * b
    word = [_word(words, begin, b, bit // 32 + q, at & (LANES - 1)) for q in range(3)]
    high, low = cut(*word, bit & 31, jnp.zeros_like(at) + b)
    base = plt.load(base_hi.at[frame]), plt.load(base_lo.at[frame])
    high, low = running_sum(high, low, *base)
    position = frame * FRAME + at
    inside = position < plt.load(count.at[jnp.int32(0)])
    for out, value in ((hi, high), (lo, low)):
        into = jnp.where(position < out.shape[0], position, out.shape[0])
        plt.store(out.at[into], jnp.where(inside, value, jnp.uint32(0)), mask=position < out.shape[0])


def _difference(hi: Ref, lo: Ref, count: Ref, frame: jax.Array, at: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(high, low) of the frame's differences `at`; 0 for its first id and for padding."""
    position = frame * FRAME + at
    real = (at > 0) & (position < plt.load(count.at[jnp.int32(0)])) & (position < hi.shape[0])
    here, before = (
        [plt.load(words.at[jnp.where(real, p, 0)], mask=real, other=0) for words in (hi, lo)]
        for p in (position, position - 1)
    )
    return minus(*here, *before)


def _word(words: Ref, begin: jax.Array, b: jax.Array, nth: jax.Array, lane: jax.Array) -> jax.Array:
    """The lane's nth word; 0 past its last."""
    at = jnp.where(nth < b, begin + nth * LANES + lane, 0)
    return plt.load(words.at[at], mask=nth < b, other=0)


def minus(hi: jax.Array, lo: jax.Array, other_hi: jax.Array, other_lo: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(hi, lo) − (other_hi, other_lo) modulo 2⁶⁴."""
    return hi - other_hi - (lo < other_lo).astype(jnp.uint32), lo - other_lo


def bits(x: jax.Array) -> jax.Array:
    """Bit length of uint32, int32."""
    return 32 - jax.lax.clz(jax.lax.bitcast_convert_type(x, jnp.int32))


def left(x: jax.Array, by: jax.Array) -> jax.Array:
    """uint32 x << by, 0 from 32 on; by int32 ≥ 0."""
    return jnp.where(by < 32, x << (by & 31).astype(jnp.uint32), jnp.uint32(0))


def right(x: jax.Array, by: jax.Array) -> jax.Array:
    return jnp.where(by < 32, x >> (by & 31).astype(jnp.uint32), jnp.uint32(0))


def window(hi: jax.Array, lo: jax.Array, offset: jax.Array) -> jax.Array:
    """What of a 64-bit number, its bit 0 at bit `offset` (−63 to any) of a word, lies in the word."""
    back = jnp.maximum(-offset, 0)
    # For shifts back below 32 both halves add bits, from 32 on only the high one; left(…, 32 − 0) is 0.
    behind = jnp.where(back < 32, right(lo, back) | left(hi, 32 - jnp.minimum(back, 32)), right(hi, back - 32))
    return jnp.where(offset >= 0, left(lo, jnp.maximum(offset, 0)), behind)


def cut(
    first: jax.Array, second: jax.Array, third: jax.Array, shift: jax.Array, b: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(high, low) of b bits that begin at bit `shift` of three words."""
    low = right(first, shift) | left(second, 32 - shift)
    high = right(second, shift) | left(third, 32 - shift)
    ones = jnp.full_like(first, 0xFFFFFFFF)
    return high & right(ones, jnp.clip(64 - b, 0, 32)), low & right(ones, jnp.clip(32 - b, 0, 32))


def running_sum(hi: jax.Array, lo: jax.Array, base_hi: jax.Array, base_lo: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(hi, lo) of base + the sum up to each, modulo 2⁶⁴: limbs of 16 bits, whose sums of 128 fit in 32."""
    out, carry = [], jnp.zeros(hi.shape, jnp.int32)
    for word, base in ((lo, base_lo), (hi, base_hi)):
        halves = []
        for shift in (0, 16):
            limb = ((word >> jnp.uint32(shift)) & jnp.uint32(0xFFFF)).astype(jnp.int32)
            start = ((base >> jnp.uint32(shift)) & jnp.uint32(0xFFFF)).astype(jnp.int32)
            total = jnp.cumsum(limb, axis=-1, dtype=jnp.int32) + start + carry
            halves.append((total & 0xFFFF).astype(jnp.uint32))
            carry = total >> 16
        out.append(halves[0] | (halves[1] << jnp.uint32(16)))
    return out[1], out[0]


def check_ids(hi: jax.Array, lo: jax.Array, count: jax.Array) -> None:
    for name, words in (("hi", hi), ("lo", lo)):
        check_shape(name, words, hi.shape[:1])
        check_dtype(name, words, ("uint32",))
    check_shape("count", count, ())
    check_dtype("count", count, ("int32",))


def check_packed(packed: Packed, size: int) -> None:
    frames = packed.widths.shape[0]
    if -(-size // FRAME) != frames:
        raise ValueError(f"size must be that of {frames} frames of {FRAME} ids, the last not empty; got {size}.")
    check_shape("packed.words", packed.words, (None,))
    for name in ("base_hi", "base_lo"):
        check_shape(f"packed.{name}", getattr(packed, name), (frames,))
    for name in ("words", "base_hi", "base_lo"):
        check_dtype(f"packed.{name}", getattr(packed, name), ("uint32",))
    for name in ("widths", "count"):
        check_dtype(f"packed.{name}", getattr(packed, name), ("int32",))
