"""Loads by address, aligned or not; and how the values of many columns are shared out among threads.

Sizes: C columns, N values of all columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from recis_core.backends.numba_backend.compiled import inlined

LANES = 8  # chunks that lie side by side go to this many places among threads, for neighbours cost alike


def _loads(bits: int, kind: Any, made: Any) -> Any:
    @intrinsic
    def load(typing_context, address):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            pointer = builder.inttoptr(arguments[0], kind.as_pointer())
            word = builder.load(pointer, align=1)
            return builder.zext(word, ir.IntType(64)) if bits < 64 and made == types.uint64 else word

        return made(types.int64), generate

    return load


# The little-endian number at an address.
byte_at = _loads(8, ir.IntType(8), types.uint64)
half_at = _loads(32, ir.IntType(32), types.uint64)
word_at = _loads(64, ir.IntType(64), types.uint64)
int32_at = _loads(32, ir.IntType(32), types.int32)
int64_at = _loads(64, ir.IntType(64), types.int64)
float32_at = _loads(32, ir.FloatType(), types.float32)
float64_at = _loads(64, ir.DoubleType(), types.float64)


@inlined
def column_of(starts, n):  # type: ignore[no-untyped-def]
    """The column, of any size but 0, that holds value n of all."""
    low, high = 0, len(starts) - 1
    while high - low > 1:
        middle = (low + high) >> 1
        if starts[middle] <= n:
            low = middle
        else:
            high = middle
    return low


def turns_for(N: int, chunk: int) -> int:
    """How many turns a parallel loop takes over N values in chunks; `begin_of` says which chunk is whose."""
    chunks = (N + chunk - 1) // chunk
    return (chunks + LANES - 1) // LANES * LANES


@inlined
def begin_of(turn, turns, chunk):  # type: ignore[no-untyped-def]
    """The first value of a turn's chunk; N or more where there is none left."""
    per_lane = turns // LANES
    return np.int64(turn % per_lane * LANES + turn // per_lane) * chunk
