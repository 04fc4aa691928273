"""Calls that may find the disk full, and bytes that must reach it."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np

from recis_core.backends.errors import CorruptStorage, NotAFile, StorageFull
from recis_core.durable import open_regular

T = TypeVar("T")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)


@contextmanager
def room_for(path: Path, wanted: int) -> Iterator[None]:
    """Turns the system's "no space" into StorageFull, and "no such file" into CorruptStorage."""
    try:
        yield
    except OSError as error:
        if error.errno in GONE:
            raise gone(path) from error
        if error.errno not in FULL:
            raise
        raise StorageFull(
            f"{path} needs {wanted:,} bytes more; its disk has {_free(path.parent):,} free ({error.strerror}). "
            "No row was lost. Free space and call again."
        ) from error


def gone(path: Path) -> CorruptStorage:
    return CorruptStorage(
        f"{path} or its directory was removed while it was in use. Rows that are in memory are whole: save them by "
        "state_dict(), close, and build the engine anew on a directory that nobody touches."
    )


def remove(path: Path) -> None:
    """Remove a file of ours, or a link of that name, if there is one.

    Raises:
      NotAFile: it is a directory.
    """
    try:
        path.unlink(missing_ok=True)
    except (IsADirectoryError, PermissionError) as error:
        if path.is_dir() and not path.is_symlink():
            raise NotAFile(f"{path} is a directory; wanted a regular file, or none. Remove it.") from error
        raise


class Reserve:
    """A file that keeps space for flushing, erasing and closing on a full disk."""

    SIZES = tuple(1 << bits for bits in range(20, 12, -1))  # as much as there is

    def __init__(self, directory: Path, *, named: bool = True) -> None:
        """named: whether the file has a name, by which another process or a store opened later finds it.

        Raises:
          NotAFile: something else has its name.
        """
        self._path, self._named = directory / "reserve", named
        self._handle = -1
        if named and os.path.lexists(self._path):
            os.close(open_regular(self._path, os.O_RDONLY))
        self.fill()

    def fill(self) -> None:
        """Reserve the space, if there is any."""
        if self._there:
            return
        with suppress(OSError):
            handle = self._open()
            if not any(_allocated(handle, size) for size in self.SIZES):
                self._give_back(handle)
            elif self._named:
                os.close(handle)
            else:
                self._handle = handle

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        return open_regular(self._path, flags) if self._named else open_nameless(self._path.parent)

    @property
    def _there(self) -> bool:
        return os.path.lexists(self._path) if self._named else self._handle >= 0

    def lend(self, call: Callable[[], T]) -> T:
        """Run the call; if the disk was full, once more with the reserve's space."""
        try:
            return call()
        except StorageFull:
            if not self._there:
                raise
            self.close()
            if self._named:
                with suppress(OSError):
                    self._path.unlink()
            return call()

    def _give_back(self, handle: int) -> None:
        os.close(handle)
        if self._named:
            self._path.unlink()

    def close(self) -> None:
        """Give the space back, if the file has no name."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)


def open_nameless(directory: Path) -> int:
    """A file without a name. Its space comes back when it is closed, however this process ends."""
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        return os.dup(file.fileno())


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
    """
    Raises:
      CorruptStorage: it is gone. NotAFile: something else has its name.
    """
    with room_for(path, 0):
        handle = open_regular(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
