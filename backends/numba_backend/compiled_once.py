"""Processes that start together, as ranks do, compile each loop once: one compiles, the others wait and load it from numba's
cache. Else each would compile all loops, for a minute or two, on cores that they share.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

from numba.core.compiler_lock import global_compiler_lock

try:
    import fcntl
except ImportError:  # Windows has none; there each process compiles for itself
    fcntl = None

LOG = logging.getLogger(__name__)
LONGEST = 300.0  # seconds that a process waits for another, which may have been stopped; then it compiles, too
WORD = 1.0  # seconds after which a log line says that it waits
EVERY = 5.0  # seconds between such lines
PAUSE = 0.002  # seconds between looks; what is in the cache already is read in about as many


def compiled_once(loop: Any) -> Any:
    """A numba dispatcher with a cache, whose `compile` waits for other processes.

    A loop is compiled inside its callers' compilations, never the reverse, so no circle of processes waits.
    """
    compile_ = loop.compile
    place = crc32(f"{loop.__module__}.{loop.__qualname__}".encode())

    def compile_alone(signature: Any) -> Any:
        with global_compiler_lock, _alone(loop.stats.cache_path, place):
            return compile_(signature)

    loop.compile = compile_alone
    return loop


@contextmanager
def _alone(folder: str, place: int) -> Iterator[None]:
    """Hold the lock of this place in this folder; without effect where a file system has no locks."""
    handle = _handle(folder, os.getpid())
    held = handle is not None and _wait(handle, place)
    try:
        yield
    finally:
        if handle is not None and held:
            fcntl.lockf(handle, fcntl.LOCK_UN, 1, place)


@cache
def _handle(folder: str, process: int) -> int | None:
    """Stays open until the process ends, for closing a file releases its locks."""
    path = Path(folder)
    if fcntl is None:
        return None
    try:
        path.mkdir(parents=True, exist_ok=True)
        return os.open(path / "compiling.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        return None


def _wait(handle: int, place: int) -> bool:
    """Wait for the lock; whether this process has it."""
    start = time.monotonic()
    while time.monotonic() < start + LONGEST:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except BlockingIOError:
            _say_if_long(start)
            time.sleep(PAUSE)
        except OSError:
            return False
        else:
            return True
    return False


_said = [float("-inf")]


def _say_if_long(start: float) -> None:
    now = time.monotonic()
    if now > start + WORD and now > _said[0] + EVERY:
        _said[0] = now
        LOG.info("another process compiles numba's loops; this one waits for them")
