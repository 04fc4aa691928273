"""Reads ahead on a thread: a bounded number of items; errors are passed on; the thread ends with its iterator."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

from recis_core.uninterrupted import in_steps, uninterrupted

T = TypeVar("T")
POLL = 0.1  # seconds between checks of `stopped` while the queue is full


def prefetched(source: Iterator[T], depth: int) -> Generator[T, None, None]:
    """The items of source; a thread makes up to `depth` of them ahead. depth 0: no thread.

    An error of source is raised after the items before it. When the iterator is closed or dropped, the thread stops
    after the item in work.
    """
    if depth < 0:
        raise ValueError(f"prefetch must be >= 0; got {depth}.")
    if depth == 0:
        yield from source
        return
    items: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stopped = threading.Event()
    thread = threading.Thread(target=_fill, args=(source, items, stopped), name="recis-prefetch", daemon=True)
    with uninterrupted():
        thread.start()
    try:
        while (event := in_steps(lambda seconds: _got(items, seconds)))[0] == "item":
            yield event[1]
        if event[0] == "error":
            raise event[1]
    finally:
        stopped.set()
        if thread is not threading.current_thread():  # a dropped generator may be collected on any thread
            thread.join()


def _got(items: queue.Queue[tuple[str, Any]], seconds: float) -> tuple[str, Any] | None:
    try:
        return items.get(timeout=seconds)
    except queue.Empty:
        return None


def _fill(source: Iterator[T], items: queue.Queue[tuple[str, Any]], stopped: threading.Event) -> None:
    try:
        for item in source:
            if not _put(items, ("item", item), stopped):
                return
        _put(items, ("end", None), stopped)
    except BaseException as error:  # the consumer raises it
        _put(items, ("error", error), stopped)
    finally:
        close = getattr(source, "close", None)
        if close is not None:
            close()


def _put(items: queue.Queue[tuple[str, Any]], event: tuple[str, Any], stopped: threading.Event) -> bool:
    while not stopped.is_set():
        try:
            items.put(event, timeout=POLL)
        except queue.Full:
            continue
        return True
    return False
