"""Hashes of the disk tier, and loads from files and from memory that they are mapped to.

Sizes: B bytes of a row.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from recis_core.backends.numba_backend.compiled import inlined

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
ONE, EIGHT = np.uint64(1), np.uint64(8)
LOW_HALF, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


@inlined
def mix(h):  # type: ignore[no-untyped-def]
    """splitmix64's last step: Steele, Lea, Flood 2014."""
    h = (h ^ (h >> np.uint64(30))) * MIX_1
    h = (h ^ (h >> np.uint64(27))) * MIX_2
    return h ^ (h >> np.uint64(31))


@inlined
def key_hash(id_, table):  # type: ignore[no-untyped-def]
    return mix(mix(np.uint64(id_)) + np.uint64(table + 1) * GOLDEN)


def lanes_of(row_bytes: int) -> np.ndarray:
    """The random words, uint64, that row_check adds to a row's words; files depend on them."""
    words = np.arange(1, (row_bytes + 7) // 8 + 1, dtype=np.uint64) * GOLDEN
    words = (words ^ (words >> np.uint64(30))) * MIX_1
    words = (words ^ (words >> np.uint64(27))) * MIX_2
    return words ^ (words >> np.uint64(31))


@inlined
def row_check(rows, beg, row_bytes, lanes, hashed):  # type: ignore[no-untyped-def]
    """A 32-bit checksum of rows[beg : beg + row_bytes] and the hashed key.

    A sum of products of half words, so that it is vectorised: NH of UMAC (Black et al. 1999), with the words added as
    in xxh3. A changed byte goes unseen once in 2³².
    """
    total = np.uint64(row_bytes)
    for k in range(row_bytes >> 3):
        word = load_word(rows, beg + 8 * k)
        mixed = word + lanes[k]
        total += (mixed & LOW_HALF) * (mixed >> HALF) + word
    if row_bytes & 7:
        word = np.uint64(0)
        for k in range(beg + (row_bytes & ~7), beg + row_bytes):
            word = (word << EIGHT) | np.uint64(rows[k])
        mixed = word + lanes[len(lanes) - 1]
        total += (mixed & LOW_HALF) * (mixed >> HALF) + word
    return np.uint32(mix(total + hashed) >> HALF)


@intrinsic
def load_word(typing_context, array, offset):  # type: ignore[no-untyped-def]
    """The eight bytes at `offset` of a contiguous byte array, aligned or not."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        byte, word = ir.IntType(8), ir.IntType(64)
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.gep(data, [arguments[1]], source_etype=byte)
        return builder.load(builder.bitcast(address, word.as_pointer()), align=1)

    return types.uint64(array, types.int64), generate


@intrinsic
def pointer(typing_context, address):  # type: ignore[no-untyped-def]
    """An int64 as an address, for numba.carray."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.CPointer(types.uint8)(types.int64), generate


@intrinsic
def copy_bytes(typing_context, to, address, size):  # type: ignore[no-untyped-def]
    """Memory to memory, by addresses."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        to, address = (builder.inttoptr(argument, cgutils.voidptr_t) for argument in arguments[:2])
        cgutils.raw_memcpy(builder, to, address, arguments[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def pread(typing_context, handle, address, size, offset):  # type: ignore[no-untyped-def]
    """The system's call: bytes of a file to memory at an address, how many there were, or -1."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        word, number = ir.IntType(64), ir.IntType(32)
        called = ir.FunctionType(word, [number, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, called, "pread")
        return builder.call(function, [builder.trunc(arguments[0], number), *arguments[1:]])

    return types.int64(types.int64, types.int64, types.int64, types.int64), generate


@intrinsic
def madvise(typing_context, address, size, advice):  # type: ignore[no-untyped-def]
    """The system's call, of whole pages; 0 on success."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        word, number = ir.IntType(64), ir.IntType(32)
        called = ir.FunctionType(number, [word, word, number])
        function = cgutils.get_or_insert_function(builder.module, called, "madvise")
        return builder.sext(builder.call(function, [*arguments[:2], builder.trunc(arguments[2], number)]), word)

    return types.int64(types.int64, types.int64, types.int64), generate


@intrinsic
def mincore(typing_context, address, size, answers):  # type: ignore[no-untyped-def]
    """The system's call: which pages are in memory, bit 0 of a byte each, to memory at an address; 0 on success."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        word, number = ir.IntType(64), ir.IntType(32)
        called = ir.FunctionType(number, [word, word, word])
        function = cgutils.get_or_insert_function(builder.module, called, "mincore")
        return builder.sext(builder.call(function, arguments), word)

    return types.int64(types.int64, types.int64, types.int64), generate
