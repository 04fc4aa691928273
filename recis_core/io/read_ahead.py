"""Calls that are made ahead on threads, and their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from recis_core.uninterrupted import in_steps, uninterrupted

T = TypeVar("T")


def read_ahead(
    calls: Iterator[Callable[[], T]], threads: int, begin: Callable[[], None] = lambda: None
) -> Generator[T, None, None]:
    """Results of calls in their order; `threads` are at work, and one waits. No thread is left when the iterator ends.

    begin: called first on each thread.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="recis-read", initializer=begin) as pool:
        ahead: deque[Future[T]] = deque()
        try:
            for call in calls:
                with uninterrupted():
                    ahead.append(pool.submit(call))
                if len(ahead) > threads:
                    yield result_of(ahead.popleft())
            while ahead:
                yield result_of(ahead.popleft())
        finally:
            for future in ahead:
                future.cancel()


def result_of(future: Future[T]) -> T:
    """Its result, once it is there; raises its error."""
    in_steps(lambda seconds: wait([future], seconds).done)
    return future.result()
