"""Keeping memory alive until the other side's GPU work is done with it.

DLPack orders the streams of both sides by events. It does not cover *reuse*: an allocator reuses a
buffer when its last reference goes, even while kernels of the other side that read it are queued.
So references are kept here until the device has run these kernels.

Written from the sources of torch and XLA; run on CPU tensors and stand-in events only.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import jax
import torch
from torch import Tensor


class Waiting:
    """References, each with a function that returns whether it may be dropped. Never waits for the device."""

    def __init__(self) -> None:
        self._entries: deque[tuple[Callable[[], bool], Any]] = deque()
        # Reentrant: dropping a reference may run a finalizer of `guard`, which adds an entry.
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, is_done: Callable[[], bool], held: Any) -> None:
        with self._lock:
            self._entries.append((is_done, held))

    def release(self) -> None:
        """Drop references whose work is done. Work is queued in order, so the first one not done is the last checked."""
        with self._lock:
            while self._entries and self._entries[0][0]():
                self._entries.popleft()


_for_jax = Waiting()
_for_torch = Waiting()


def hold(tensors: Iterable[Tensor], until: Iterable[jax.Array]) -> None:
    """Keep CUDA tensors that were given to JAX until the arrays `until`, computed from them, are ready.

    Needed where tensors may die before the JAX program that reads them has run: an argument made
    for the call, or an activation. CPU tensors need no hold: XLA's CPU client keeps its inputs itself.
    Name at least one result that is not donated later: a donated array cannot be asked whether it is
    ready. The next `hold` drops tensors whose work is done; nothing here waits for the device.
    """
    _for_jax.release()
    tensors = [tensor for tensor in tensors if tensor.is_cuda]
    if tensors:
        results = tuple(until)
        _for_jax.add(lambda: all(x.is_deleted() or x.is_ready() for x in results), tensors)  # type: ignore[attr-defined]


def guard(tensor: Tensor, array: jax.Array) -> None:
    """Keep `array` until torch's work on `tensor`, a CUDA view of it, has passed.

    When the last torch tensor over that memory dies, an event is recorded on the current stream, and
    the array is kept until it. The caller must order work on other streams, as for any tensor without
    torch's record_stream.
    """
    _for_torch.release()
    weakref.finalize(tensor.untyped_storage(), _wait_for_torch, array, tensor.device).atexit = False


def _wait_for_torch(array: jax.Array, device: torch.device) -> None:
    event = torch.cuda.current_stream(device).record_event()
    _for_torch.add(event.query, array)
