"""Decorators that compile loops, and the few machine instructions that numba lacks.

error_model="numpy": a division by zero gives inf instead of a branch that keeps a loop from being vectorised.
fastmath stays off everywhere: it would change the order of sums.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from threading import Lock
from types import FunctionType
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import get_num_threads, njit, set_num_threads, threading_layer, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.ufunc import parallel

from recis_core.backends.numba_backend import compile_events
from recis_core.backends.numba_backend.compiled_once import compiled_once

compile_events.listen()

_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


def compiled(function: Callable[..., Any]) -> Any:
    """A serial loop."""
    return compiled_once(njit(**_OPTIONS)(function))


def inlined(function: Callable[..., Any]) -> Any:
    """A step of an inner loop that takes arrays and returns numbers, always inlined.

    LLVM might keep a call, which passes each array as seven numbers. References are not counted, for the caller holds the
    arrays, and two atomic operations for each cost more than a probe. So such a step must not make or return an array.
    """
    return compiled_once(njit(forceinline=True, _nrt=False, **_OPTIONS)(function))  # type: ignore[call-overload]


def compiled_parallel(function: Callable[..., Any]) -> Any:
    """A loop over threads, by prange. Its blocks share no sum, so that results do not depend on the thread count."""
    return ThreadedLoop(compiled_once(njit(parallel=True, **_OPTIONS)(function)), function)


class ThreadedLoop:
    """A parallel loop that several Python threads may call.

    numba's last resort among threading layers, workqueue, ends the process when two threads enter it at once; there
    calls wait for one another. numba names its layer only after the first loop.

    No layer survives a fork: OpenMP ends the process, others wait for threads that are gone. A forked process whose
    parent had started a layer runs the same loop compiled without threads.
    """

    _lock = Lock()
    _locked = True

    def __init__(self, loop: Callable[..., Any], function: Any) -> None:
        self._loop, self._function = loop, function
        self._alone: Callable[..., Any] | None = None

    @property
    def alone(self) -> Callable[..., Any]:
        """The loop without threads, under another name, for numba's cache is by name."""
        if self._alone is None:
            f = self._function
            same = FunctionType(f.__code__, f.__globals__, f"{f.__name__}_alone", f.__defaults__, f.__closure__)
            same.__qualname__, same.__module__ = same.__name__, f.__module__
            self._alone = compiled(same)
        return self._alone

    def __call__(self, *arrays: Any) -> Any:
        if not ThreadedLoop._locked:
            return self._loop(*arrays)
        with ThreadedLoop._lock:
            start_threads()
            result = self._loop(*arrays)
            ThreadedLoop._locked = threading_layer() == "workqueue"
            return result


def _in_a_forked_child() -> None:
    ThreadedLoop._lock = Lock()  # some thread of the parent may have held it
    if parallel._is_initialized:
        ThreadedLoop.__call__ = lambda loop, *arrays: loop.alone(*arrays)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_forked_child)


@cache
def start_threads() -> None:
    """Start the threads of parallel loops, and keep torch's thread count: numba sets OpenMP's to NUMBA_NUM_THREADS, and
    torch, which shares OpenMP, would use as many, whatever OMP_NUM_THREADS or torch.set_num_threads asked for.
    """
    before = torch.get_num_threads()
    get_num_threads()
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)


def on_one_thread() -> None:
    """From now on parallel loops that the calling thread starts run on that thread alone."""
    start_threads()
    set_num_threads(1)


@intrinsic
def leading_zeros(typing_context, word):  # type: ignore[no-untyped-def]
    """Of a uint32 that is not 0."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint32(types.uint32), generate


@intrinsic
def trailing_zeros(typing_context, word):  # type: ignore[no-untyped-def]
    """Of a uint64 that is not 0."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@intrinsic
def bits_of(typing_context, value):  # type: ignore[no-untyped-def]
    """The bits of a float32, int32."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@intrinsic
def float_of(typing_context, bits):  # type: ignore[no-untyped-def]
    """The float32 of these bits."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(builder.trunc(arguments[0], ir.IntType(32)), ir.FloatType())

    return types.float32(types.int64), generate


@intrinsic
def prefetch(typing_context, array, offset):  # type: ignore[no-untyped-def]
    """Prefetch the cache line `offset` bytes into a contiguous array.

    Rows and index entries are read at random places, and a processor looks only a few rows ahead by itself.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        byte, word = ir.IntType(8), ir.IntType(32)
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.gep(builder.bitcast(data, byte.as_pointer()), [arguments[1]], source_etype=byte)
        kind = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), word, word, word])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        to_read, keep, data_cache = (ir.Constant(word, n) for n in (0, 3, 1))
        builder.call(call, [address, to_read, keep, data_cache])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@inlined
def prefetch_row(array, row):  # type: ignore[no-untyped-def]
    """All lines of array[row]."""
    size = array.shape[1] * array.itemsize
    for line in range((size + 63) >> 6):
        prefetch(array, np.int64(row) * size + (line << 6))
