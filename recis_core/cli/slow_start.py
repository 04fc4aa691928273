"""A word while a command loads what it needs, where that takes long: PyTorch alone takes seconds, more from a cold disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

AFTER = 1.0  # seconds


@contextmanager
def said_if_slow(text: str) -> Iterator[None]:
    """Print it if the block lasts longer than AFTER."""
    timer = threading.Timer(AFTER, lambda: print(text, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
