"""Calls that may find the disk full, and bytes that must reach it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from backends.errors import StorageFull
from recis_core.serialize.saved_state import sync_directory

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def room_for(path: Path, wanted: int) -> Iterator[None]:
    """Turns the system's "no space" into StorageFull."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StorageFull(
            f"{path} needs {wanted:,} bytes more; its disk has {_free(path.parent):,} free ({error.strerror}). "
            "No row was lost. Free space and call again."
        ) from error


def _free(directory: Path) -> int:
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def write_at(path: Path, handle: int, data: np.ndarray, offset: int) -> None:
    """All bytes of a contiguous array.

    Raises:
      StorageFull: a part may have been written.
    """
    rest = memoryview(data.reshape(-1).view(np.uint8))
    with room_for(path, len(rest)):
        while len(rest):
            written = os.pwrite(handle, rest, offset)
            rest, offset = rest[written:], offset + written


def sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


__all__ = ["room_for", "sync_directory", "sync_file", "write_at"]
