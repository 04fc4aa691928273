"""What can be known to fail before a run begins, so that no hours are trained in vain."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from recis_core.cli.data_files import files_of
from recis_core.cli.flags import flag


def choose_backend(name: str | None) -> None:
    """A --backend is every table's."""
    if name is not None:
        os.environ["RECIS_BACKEND"] = name


def check_files(name: str, data: str) -> None:
    """Raises FileNotFoundError, which names the flag, where it names no file."""
    try:
        files_of(data)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{flag(name)} {data} names no file (from {os.getcwd()}). Give a file, a folder or a glob, ** for any depth."
        ) from error


def check_writable(name: str, directory: str) -> None:
    """By a file without a name in it, or in the first folder above that is there.

    Raises:
      OSError: as the system says of it, with the flag's name.
    """
    path = Path(directory)
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    try:
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        where = "" if path == Path(directory) else f" ({path} is what there is)"
        raise OSError(
            f"{flag(name)} {directory} cannot be written to{where}: {error.strerror}. Name another directory."
        ) from error
