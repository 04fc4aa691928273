"""How many threads parallel loops run on while another thread wants a core."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from numba import get_num_threads, set_num_threads

from recis_core.backends.numba_backend.compiled import start_threads


class _Wishes(threading.local):
    """Of one thread: the thread counts of its loops before, torch's and numba's, and those asked for since."""

    def __init__(self) -> None:
        self.before = (1, 1)
        self.counts: list[int] = []


_wishes = _Wishes()


@contextmanager
def loop_threads(count: int | None) -> Iterator[None]:
    """Inside, loops of torch and numba that the calling thread starts run on `count` threads; None changes nothing.

    A loop waits for its last thread, so a core that another thread uses slows all of them. Blocks may overlap and end in
    any order; the smallest count holds.
    """
    if count is None:
        yield
        return
    if not _wishes.counts:
        _wishes.before = _current()
    counts = _wishes.counts
    counts.append(count)
    try:
        _set(counts)
        yield
    finally:
        counts.remove(count)
        if counts is _wishes.counts:  # a dropped generator may be collected on any thread
            _set(counts)


def _current() -> tuple[int, int]:
    start_threads()
    return torch.get_num_threads(), get_num_threads()


def _set(counts: list[int]) -> None:
    for_torch, for_numba = (min([*counts, before]) for before in _wishes.before)
    torch.set_num_threads(for_torch)
    set_num_threads(for_numba)
