"""Calls that may find the disk full, and bytes that must reach it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np

from backends.errors import StorageFull
from recis_core.durable import sync_directory

T = TypeVar("T")
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


class Reserve:
    """A file that keeps space for what must be possible on a full disk: to flush, to erase, to close."""

    SIZES = tuple(1 << bits for bits in range(20, 12, -1))  # as much as there is

    def __init__(self, directory: Path) -> None:
        self._path = directory / "reserve"
        self.fill()

    def fill(self) -> None:
        """Take the space, if there is any."""
        if self._path.exists():
            return
        with suppress(OSError), self._path.open("ab") as file:
            if not any(_allocated(file.fileno(), size) for size in self.SIZES):
                self._path.unlink()

    def lend(self, call: Callable[[], T]) -> T:
        """The call, once more with the reserve's space if there was none else."""
        try:
            return call()
        except StorageFull:
            if not self._path.exists():
                raise
            self._path.unlink()
            return call()


def _allocated(handle: int, size: int) -> bool:
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError:
        os.truncate(handle, 0)  # a part may have been
        return False
    return True


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
