"""Checks before a run begins, so that no hours are trained in vain."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile

from recis_core.cli.data_files import files_of
from recis_core.cli.flags import flag
from recis_core.serialize import latest_state
from recis_core.serialize.store_path import Place, StorePath
from recis_core.urls import local_path


def choose_backend(name: str | None) -> None:
    """--backend holds for every table."""
    if name is not None:
        os.environ["RECIS_BACKEND"] = name


def check_files(name: str, data: str) -> None:
    """Raises FileNotFoundError, naming the flag, where there is no file."""
    try:
        files_of(data)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{flag(name)} {data} names no file (from {os.getcwd()}). Give a file, a folder or a glob, ** for any depth."
        ) from error


def find_state(name: str, directory: str) -> Place:
    """The latest state. Raises FileNotFoundError, naming the flag, where there is none."""
    try:
        return latest_state(directory)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{flag(name)} {error}") from error


def check_store(name: str, url: str) -> None:
    """Try it by an empty file, which is removed.

    Raises:
      OSError: the store's, with the flag's name. ValueError, ImportError: fsspec opens no such URL.
    """
    probe = StorePath.of(url) / f".probe-{secrets.token_hex(8)}"
    try:
        probe.put(b"")
        probe.remove()
    except OSError as error:
        raise OSError(f"{flag(name)} {url} cannot be written to: {error}") from error


def check_writable(name: str, directory: str) -> None:
    """Try it by a file without a name, in the directory or the first folder above it that exists.

    Raises:
      OSError: the system's, with the flag's name. ValueError: it is a URL.
    """
    path = local_path(directory, f"{flag(name)}")
    start = path
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    try:
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        where = "" if path == start else f" ({path} is what there is)"
        raise OSError(
            f"{flag(name)} {directory} cannot be written to{where}: {error.strerror}. Name another directory."
        ) from error
