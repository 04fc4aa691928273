"""Errors at each place of a stage: at its k-th line of Python, at its k-th tensor operation, at its k-th array."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from recis_core import backends

HOUSE = str(Path(backends.__file__).parent)
ALLOCATORS = (
    "empty",
    "zeros",
    "ones",
    "full",
    "arange",
    "concatenate",
    "where",
    "flatnonzero",
    "sort",
    "delete",
    "array",
)
TORCH_SAYS = (
    "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."
)


class Countdown:
    """Raises `error` the k-th time it is asked; `left` is what remains of k."""

    def __init__(self, k: int, error: Exception) -> None:
        self.left, self.error = k, error

    def tick(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error


@contextmanager
def at_line(count: Countdown) -> Iterator[None]:
    """Before the k-th line that is run in backends/."""

    def trace(frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(HOUSE):
            return None
        if event == "line":
            count.tick()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


class _Operations(TorchDispatchMode):
    def __init__(self, count: Countdown) -> None:
        super().__init__()
        self._count = count

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._count.tick()
        return function(*args, **(kwargs or {}))


@contextmanager
def at_operation(count: Countdown) -> Iterator[None]:
    """In place of the k-th operation of torch, as its allocator fails."""
    with _Operations(count):
        yield


@contextmanager
def at_array(count: Countdown) -> Iterator[None]:
    """In place of the k-th array that numpy makes by name."""

    def counted(make: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            count.tick()
            return make(*args, **kwargs)

        return counting

    with pytest.MonkeyPatch.context() as patch:
        for name in ALLOCATORS:
            patch.setattr(np, name, counted(getattr(np, name)))
        yield


NEVER = 1 << 40
WAYS = {"line": at_line, "operation": at_operation, "array": at_array}


def places(way: str, call: Callable[[], Any]) -> int:
    """At how many places the call can fail."""
    count = Countdown(NEVER, MemoryError())
    with WAYS[way](count):
        call()
    return NEVER - count.left


def fails_at(way: str, k: int, call: Callable[[], Any]) -> bool:
    """Whether the call was reached by the error. What torch's allocator says must have become a MemoryError."""
    count = Countdown(k, RuntimeError(TORCH_SAYS) if way == "operation" else MemoryError(f"number {k}"))
    with WAYS[way](count), suppress(MemoryError):
        call()
    return count.left <= 0
