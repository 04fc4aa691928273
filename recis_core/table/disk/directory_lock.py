"""Whose directory it is: one store's, in the process that opened it.

The lock is on the open file, which a forked child shares. So the child closes its copy at once, and release unlocks by name:
no child keeps the lock, and none ends it.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from contextlib import suppress
from pathlib import Path

from recis_core.backends.errors import CorruptStorage, NotAFile, StorageInUse
from recis_core.durable import make_directory, open_regular

_held: weakref.WeakSet[DirectoryLock] = weakref.WeakSet()


class DirectoryLock:
    """Until it is released, nobody else opens the directory, neither another process nor this one.

    Raises:
      StorageInUse: another store has it open. NotAFile: no directory of ours is there, or no file of ours is its lock.
    """

    def __init__(self, directory: Path) -> None:
        if directory.is_symlink():
            raise NotAFile(
                f"{directory} is a link; wanted a directory. Name the one that it leads to in CacheConfig.disk."
            )
        make_directory(directory)
        self.path, self._handle = directory / "lock", -1
        handle = open_regular(self.path, os.O_RDWR | os.O_CREAT)
        try:
            self._take(handle)
        except BaseException:
            os.close(handle)
            raise
        self._handle, self._number = handle, os.fstat(handle).st_ino
        _held.add(self)

    def _take(self, handle: int) -> None:
        if os.fstat(handle).st_nlink > 1:
            raise NotAFile(
                f"{self.path} is another file too, by a hard link; wanted a file of its own. Remove the link."
            )
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(handle, 32, 0).decode(errors="replace")
            raise StorageInUse(
                f"{self.path.parent} is open in process {owner or '?'}. Close it there, or name another directory."
            ) from error
        with suppress(OSError):  # the number only helps who looks; a full disk may refuse it
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)

    def check(self) -> None:
        """Raise if the lock no longer keeps others out.

        Raises:
          CorruptStorage: its file is gone, so another process may have the directory open.
        """
        try:
            same = os.stat(self.path, follow_symlinks=False).st_ino == self._number
        except OSError:
            same = False
        if not same:
            raise CorruptStorage(
                f"{self.path} was removed or replaced while it was held, so that another process may use "
                f"{self.path.parent}, too; nothing more is written there. Save the rows by state_dict(), close, and build "
                "the engine anew on a directory that nobody touches."
            )

    def release(self) -> None:
        """Once; later calls do nothing."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_UN)  # a child that was forked meanwhile may hold it, too
            os.close(handle)

    def _leave(self) -> None:
        """In a forked child: the lock stays its parent's."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)


def _in_child() -> None:
    for lock in list(_held):
        lock._leave()


os.register_at_fork(after_in_child=_in_child)
