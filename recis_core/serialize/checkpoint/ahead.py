"""Calls whose results are used in order, each made while the result before is in use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(calls: Iterable[Callable[[], T]]) -> Iterator[T]:
    """The results of the calls. A thread makes one call more than was asked for; its error comes in its place."""
    with ThreadPoolExecutor(1, "recis-read-ahead") as thread:
        coming = None
        for call in calls:
            ready, coming = coming, thread.submit(call)
            if ready is not None:
                yield ready.result()
                del ready
        if coming is not None:
            yield coming.result()
