"""Files that last: opened as regular files, readable by their user alone, and synced with their directory.

RECIS_FILE_MODE=644, octal, asks for another mode; the process's umask takes from either.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from recis_core.backends.errors import NotAFile

PRIVATE = 0o600


def file_mode() -> int:
    """The mode of files we make, before the umask: 0o600, or RECIS_FILE_MODE.

    Raises:
      ValueError: RECIS_FILE_MODE is no octal number, or would leave the user without reading and writing.
    """
    text = os.environ.get("RECIS_FILE_MODE", "")
    if not text:
        return PRIVATE
    mode = int(text, 8) if text.strip("01234567") == "" else -1
    if not 0 <= mode <= 0o777 or mode & PRIVATE != PRIVATE:
        raise ValueError(f"RECIS_FILE_MODE must be octal, as 600 or 644, and hold 600; got {text!r}.")
    return mode


def directory_mode() -> int:
    """That of directories: whoever may read its files may enter it."""
    mode = file_mode()
    return mode | (mode & 0o444) >> 2


def make_directory(path: Path, *, exist_ok: bool = True) -> None:
    """With its parents, which get the process's own mode.

    Raises:
      NotADirectoryError: a file, or a link to nothing, stands there. OSError: as the system says.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(directory_mode(), exist_ok=exist_ok)
    except FileExistsError as error:
        if os.path.isdir(error.filename):
            raise
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename) from error


def open_regular(path: Path, flags: int, *, follow: bool = False) -> int:
    """A file descriptor of a regular file, made with our mode under os.O_CREAT.

    follow: whether the name itself may be a link. What stands there is neither waited for nor truncated before it is known
    to be a file: pass os.O_TRUNC to os.ftruncate afterwards, not here.

    Raises:
      NotAFile: a link, directory, pipe, socket or device. OSError: as os.open.
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
    """Names made, renamed or removed in it last."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
