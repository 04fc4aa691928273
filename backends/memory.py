"""Zeroed memory for tables: aligned to cache lines, on huge pages where the system has them.

Rows are read at random; with 4 KiB pages each read of a large table also misses the TLB.
Memory takes no pages until it is written, so room for later rows costs nothing.
"""

from __future__ import annotations

import contextlib
import math
import mmap

import numpy as np
import torch

PAGE = 2 << 20  # bytes of a huge page, where large arrays begin
HUGE = 4 << 20  # below two huge pages there is nothing to gain


def zeroed(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array of zeros whose first byte starts a cache line."""
    count = math.prod(shape)
    size = count * dtype.itemsize
    if size < HUGE or not hasattr(mmap, "MAP_PRIVATE"):
        return np.frombuffer(_small(size), dtype, count).reshape(shape) if size else np.zeros(shape, dtype)
    buffer = np.frombuffer(_mapped(size + PAGE), np.uint8)
    return buffer[-buffer.ctypes.data % PAGE :][:size].view(dtype).reshape(shape)


def copied(array: np.ndarray) -> np.ndarray:
    """A copy of a contiguous array, of its bytes: numpy copies records field by field."""
    return array.reshape(-1).view(np.uint8).copy().view(array.dtype).reshape(array.shape)


def _small(size: int) -> np.ndarray:
    # torch aligns to cache lines; numpy does not.
    return torch.zeros(size, dtype=torch.uint8, device="cpu").numpy()


def _mapped(size: int) -> mmap.mmap:
    # Private, so that a forked process does not write into its parent's table.
    try:
        buffer = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"the system has no {size >> 20} MiB for a table's array") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without huge pages; ordinary ones do
            buffer.madvise(mmap.MADV_HUGEPAGE)
    return buffer
