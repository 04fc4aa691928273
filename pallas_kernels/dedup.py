"""Unique keys with inverse and counts, at a static size: XLA sorts, two kernels number and write.

    keys     7 3 7 9 3        order    1 4 0 2 3      heads  1 0 1 0 1
    unique   3 7 9            inverse  1 0 1 2 0      counts 2 2 1

Reads    12 bytes a key three times, the sorts' passes aside, and 4 of its place in the order.
Writes   8 bytes a key, 24 a unique key.
Ceiling  XLA's radix sorts, of 12 bytes a key by 64 bits and of 8 by 64.

Sizes: N keys, U unique keys, C keys of a block.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from recis_core.pallas_kernels.index import Keys, check_keys, signed_order
from recis_core.pallas_kernels.launch import launch
from recis_core.pallas_kernels.operands import check_dtype, check_shape
from recis_core.pallas_kernels.tuning import KeyConfig, dedup_config

Ref = Any


class Unique(NamedTuple):
    """The first min(count, size) unique keys, ascending by (uid, signed id), then zeros; and their occurrences.

    Key u's occurrences are order[offsets[u]] to order[offsets[u + 1] - 1], in their order: what segment_sum takes.
    """

    keys: Keys  # uint32 [size]
    counts: jax.Array  # int32 [size]
    offsets: jax.Array  # int32 [size + 1]
    inverse: jax.Array  # int32 [N]; -1 where not valid, and for keys past `size`
    order: jax.Array  # int32 [N], positions by key, those not valid behind
    count: jax.Array  # int32 [], how many there are, be it more than size


def dedup(
    keys: Keys, valid: jax.Array, *, size: int | None = None, config: KeyConfig | None = None, interpret: bool = False
) -> Unique:
    """Number the unique keys among the valid ones.

    Args:
      keys: [N], any of them several times.
      valid: bool [N].
      size: the number of unique keys that the result can hold; N where not given. Where `count` is above it, keys are
        missing; nothing else shows that.

    Raises:
      TypeError, ValueError: a dtype, a shape or the size is wrong.

    As jnp.unique(return_inverse=True, return_counts=True, size=…), of 96-bit keys.
    """
    check_keys(keys)
    check_shape("valid", valid, keys.lo.shape)
    check_dtype("valid", valid, ("bool",))
    total = valid.shape[0]
    size = total if size is None else size
    if size < 0:
        raise ValueError(f"size must not be negative; got {size}.")
    if total == 0:
        return _nothing(size)
    config = config or dedup_config()
    real = valid.sum(dtype=jnp.int32)
    order = sort_keys(keys, valid)
    blocks = -(-total // config.keys)
    run = partial(launch, programs=blocks, num_warps=config.num_warps, interpret=interpret)
    heads = run(
        partial(count_kernel, config=config), keys, order, real.reshape(1),
        out_shape=jax.ShapeDtypeStruct((blocks,), jnp.int32),
    )  # fmt: skip
    before = jnp.cumsum(heads, dtype=jnp.int32) - heads
    column = jax.ShapeDtypeStruct((size,), jnp.uint32)
    lo, hi, uids, begins, inverse = run(
        partial(write_kernel, config=config), keys, order, real.reshape(1), before,
        out_shape=(column, column, column, _int32(size), _int32(total)),
    )  # fmt: skip
    return _finished(Keys(lo, hi, uids), begins, inverse, order, heads.sum(dtype=jnp.int32), real)


def _int32(size: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((size,), jnp.int32)


def _nothing(size: int) -> Unique:
    words, numbers = jnp.zeros(size, jnp.uint32), jnp.zeros(size, jnp.int32)
    none = jnp.zeros(0, jnp.int32)
    return Unique(Keys(words, words, words), numbers, jnp.zeros(size + 1, jnp.int32), none, none, jnp.int32(0))


def _finished(
    keys: Keys, begins: jax.Array, inverse: jax.Array, order: jax.Array, count: jax.Array, real: jax.Array
) -> Unique:
    """Zeros in lines past the last unique key, which no kernel wrote."""
    size = begins.shape[0]
    inside = jnp.arange(size, dtype=jnp.int32) < count
    # With more than `size` keys the last offset is the first dropped key's begin, which no kernel wrote: count it.
    kept = jnp.where(count > size, (inverse >= 0).sum(dtype=jnp.int32), real)
    offsets = jnp.concatenate([jnp.where(inside, begins, kept), kept[None]])
    keys = jax.tree.map(lambda x: jnp.where(inside, x, 0), keys)
    return Unique(keys, offsets[1:] - offsets[:-1], offsets, inverse, order, count)


def sort_keys(keys: Keys, valid: jax.Array) -> jax.Array:
    """Positions int32 [N] by (uid, signed id, position), those not valid behind.

    Least significant word first, each pass a sort by one 64-bit operand, which is what GPUs sort by radix.
    """
    with jax.enable_x64(True):
        ids = signed_order(keys.hi).astype(jnp.uint64) << jnp.uint64(32) | keys.lo.astype(jnp.uint64)
        position = jnp.arange(valid.shape[0], dtype=jnp.int32)
        _, by_id = jax.lax.sort((ids, position), num_keys=1, is_stable=True)
        high = (~valid).astype(jnp.uint64) << jnp.uint64(63) | keys.uids.astype(jnp.uint64) << jnp.uint64(31)
        packed = jax.lax.sort(high[by_id] | position.astype(jnp.uint64), is_stable=False)
        place = (packed & jnp.uint64(0x7FFFFFFF)).astype(jnp.int32)
    return by_id[place]


def count_kernel(keys: Any, order: Ref, real: Ref, out: Ref, *, config: KeyConfig) -> None:
    """One program: how many keys of a block differ from the one before."""
    *_, head = _block(keys, order, real, config)
    plt.store(out.at[pl.program_id(0)], jnp.sum(jnp.where(head, 1, 0), dtype=jnp.int32))


def write_kernel(
    keys: Any, order: Ref, real: Ref, before: Ref, lo: Ref, hi: Ref, uids: Ref, begins: Ref, inverse: Ref,
    *, config: KeyConfig,
) -> None:  # fmt: skip
    """One program: numbers of a block's keys; the first of each writes it down."""
    at, position, mine, here, head = _block(keys, order, real, config)
    flags = jnp.where(head, 1, 0)
    number = plt.load(before.at[pl.program_id(0)]) + jnp.cumsum(flags, dtype=jnp.int32) - 1
    size, total = begins.shape[0], inverse.shape[0]
    known = here & (number < size)
    plt.store(inverse.at[jnp.where(at < total, position, total)], jnp.where(known, number, -1), mask=at < total)
    into = jnp.where(head & known, number, size)
    for out, value in zip((lo, hi, uids, begins), (*mine, at), strict=True):
        plt.store(out.at[into], value, mask=head & known)


def _block(
    keys: Any, order: Ref, real: Ref, config: KeyConfig
) -> tuple[jax.Array, jax.Array, Keys, jax.Array, jax.Array]:
    """(places in the order, positions, keys, which are valid, which differ from the key before) of a program."""
    at = pl.program_id(0) * config.keys + jnp.arange(config.keys, dtype=jnp.int32)
    here = at < plt.load(real.at[jnp.int32(0)])
    position = plt.load(order.at[at], mask=at < order.shape[0], other=0)
    previous = plt.load(order.at[at - 1], mask=here & (at > 0), other=0)
    mine, other = (Keys(*(plt.load(words.at[p], mask=here, other=0) for words in keys)) for p in (position, previous))
    differs = (mine.lo != other.lo) | (mine.hi != other.hi) | (mine.uids != other.uids)
    return at, position, mine, here, here & (differs | (at == 0))
