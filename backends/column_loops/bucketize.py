"""Numbers to buckets by binary search without jumps. Sizes: C columns, N values of all columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from recis_core.backends.column_loops.addresses import (
    begin_of,
    column_of,
    float32_at,
    float64_at,
    int32_at,
    int64_at,
    turns_for,
)
from recis_core.backends.numba_backend.compiled import compiled, compiled_parallel, inlined

CHUNK = 4096  # values a thread takes at a time
KINDS = ("float32", "float64", "int32", "int64")
FLOAT32, FLOAT64, INT32, INT64 = range(4)


def bucketize_columns(  # type: ignore[no-untyped-def]
    values: np.ndarray, kinds: np.ndarray, starts: np.ndarray, edges: np.ndarray, counts: np.ndarray, out
) -> None:
    """out int64 [N]. values and edges int64 [C], addresses; kinds and counts of edges int64 [C]. Edges are float64 where values
    are floats, else int64."""
    _bucketize_all(values, kinds, starts, edges, counts, out, turns_for(int(starts[-1]), CHUNK))


@compiled_parallel
def _bucketize_all(values, kinds, starts, edges, counts, out, turns):  # type: ignore[no-untyped-def]
    N = starts[-1]
    for turn in prange(turns):
        beg = begin_of(turn, turns, CHUNK)
        if beg < N:
            _fill(values, kinds, starts, edges, counts, beg, min(beg + CHUNK, N), out)


@compiled
def _fill(values, kinds, starts, edges, counts, beg, end, out):  # type: ignore[no-untyped-def]
    c = column_of(starts, beg)
    while beg < end:
        stop, first, edge, K = min(end, starts[c + 1]), starts[c], edges[c], counts[c]
        if kinds[c] == FLOAT32:
            for n in range(beg, stop):
                out[n] = _among_floats(np.float64(float32_at(values[c] + 4 * (n - first))), edge, K)
        elif kinds[c] == FLOAT64:
            for n in range(beg, stop):
                out[n] = _among_floats(float64_at(values[c] + 8 * (n - first)), edge, K)
        elif kinds[c] == INT32:
            for n in range(beg, stop):
                out[n] = _among_integers(np.int64(int32_at(values[c] + 4 * (n - first))), edge, K)
        else:
            for n in range(beg, stop):
                out[n] = _among_integers(int64_at(values[c] + 8 * (n - first)), edge, K)
        beg, c = max(beg, stop), c + 1


@intrinsic
def _above(typing_context, edge, value):  # type: ignore[no-untyped-def]
    """-1 where a float64 edge is above a value, else 0: nothing is above NaN."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return _opaque(builder, builder.sext(builder.fcmp_ordered(">", *arguments), ir.IntType(64)))

    return types.int64(types.float64, types.float64), generate


@intrinsic
def _above_integer(typing_context, edge, value):  # type: ignore[no-untyped-def]
    """-1 where an int64 edge is above a value, else 0."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return _opaque(builder, builder.sext(builder.icmp_signed(">", *arguments), ir.IntType(64)))

    return types.int64(types.int64, types.int64), generate


def _opaque(builder: Any, mask: Any) -> Any:
    """A mask of which LLVM does not know that it is one: it would make a jump of it, and a search among random values
    mispredicts half of them. No instruction comes of this."""
    empty = ir.InlineAsm(ir.FunctionType(mask.type, [mask.type]), "", "=r,0")
    return builder.call(empty, [mask])


@inlined
def _among_floats(value, edge, K):  # type: ignore[no-untyped-def]
    """How many of K edges are not above a value."""
    if K == 0:
        return K
    at = edge
    while K > 1:
        half = K >> 1
        at += 8 * half & ~_above(float64_at(at + 8 * (half - 1)), value)
        K -= half
    return ((at - edge) >> 3) + 1 + _above(float64_at(at), value)


@inlined
def _among_integers(value, edge, K):  # type: ignore[no-untyped-def]
    if K == 0:
        return K
    at = edge
    while K > 1:
        half = K >> 1
        at += 8 * half & ~_above_integer(int64_at(at + 8 * (half - 1)), value)
        K -= half
    return ((at - edge) >> 3) + 1 + _above_integer(int64_at(at), value)
