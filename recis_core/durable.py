"""Durable files: regular files, readable by their user alone, and synced with their directory.

RECIS_FILE_MODE=644, octal, sets another mode; the process's umask applies to both.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from recis_core.backends.errors import NotAFile

PRIVATE = 0o600


def file_mode() -> int:
    """The mode of new files, before the umask: 0o600, or RECIS_FILE_MODE.

    Raises:
      ValueError: RECIS_FILE_MODE is no octal number, or the user could not read and write the file.
    """
    text = os.environ.get("RECIS_FILE_MODE", "")
    if not text:
        return PRIVATE
    mode = int(text, 8) if text.strip("01234567") == "" else -1
    if not 0 <= mode <= 0o777 or mode & PRIVATE != PRIVATE:
        raise ValueError(f"RECIS_FILE_MODE must be octal, as 600 or 644, and hold 600; got {text!r}.")
    return mode


def directory_mode() -> int:
    """The mode of new directories: whoever may read the files may enter the directory."""
    mode = file_mode()
    return mode | (mode & 0o444) >> 2


def make_directory(path: Path, *, exist_ok: bool = True) -> None:
    """Make a directory, and its parents, which get the process's default mode.

    Raises:
      NotADirectoryError: the path is a file, or a link to nothing. OSError: the system's error.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(directory_mode(), exist_ok=exist_ok)
    except FileExistsError as error:
        if os.path.isdir(error.filename):
            raise
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename) from error


def open_regular(path: Path, flags: int, *, follow: bool = False) -> int:
    """A file descriptor of a regular file; os.O_CREAT makes the file with our mode.

    follow: whether the path may be a link. The call never waits for a pipe. Do not pass os.O_TRUNC, which could truncate
    what is no regular file; call os.ftruncate afterwards.

    Raises:
      NotAFile: the path is a link, directory, pipe, socket or device. OSError: as os.open.
    """
    flags |= os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    if not follow and path.is_symlink():
        raise NotAFile(f"{path} is a link; wanted a regular file. Remove it, or name the file it leads to.")
    try:
        handle = os.open(path, flags, file_mode())
    except IsADirectoryError as error:
        raise NotAFile(f"{path} is a directory; wanted a regular file.") from error
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise NotAFile(f"{path} is a pipe that nobody reads, or a device; wanted a regular file.") from error
    kind = os.fstat(handle).st_mode
    if not stat.S_ISREG(kind):
        os.close(handle)
        raise NotAFile(f"{path} is a {_kind_of(kind)}; wanted a regular file.")
    return handle


def _kind_of(mode: int) -> str:
    kinds = {stat.S_ISDIR: "directory", stat.S_ISFIFO: "pipe", stat.S_ISSOCK: "socket"}
    return next((name for is_kind, name in kinds.items() if is_kind(mode)), "device")


def sync_directory(path: Path) -> None:
    """Sync a directory: make durable which names were made, renamed or removed in it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
