"""Which names are URLs, and paths for what takes none."""

from __future__ import annotations

import os
import re
from pathlib import Path

URL = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.-]*::)*)[A-Za-z][A-Za-z0-9+.-]*://")
OF_A_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # how the path begins that pathlib makes of one
LOCAL = re.compile(r"^(file|local)://")  # read as paths: their folders are listed whole or not at all


def is_url(name: str) -> bool:
    """Whether a name is of another file system than this machine's."""
    return URL.match(name) is not None and LOCAL.match(name) is None


def no_url(path: Path) -> Path:
    """Raises ValueError where it was made of a URL, of whose slashes a Path keeps one."""
    if path.parts and OF_A_URL.fullmatch(path.parts[0]):
        raise ValueError(f"{path} was made of a URL, which a Path cannot hold; give the URL as text.")
    return path


def local_path(path: str | os.PathLike[str], what: str) -> Path:
    """The path of what lies on this machine alone. what: its name, which begins the message.

    Raises:
      ValueError: it is a URL, of which a Path would make a folder here; or a Path of one.
    """
    name = os.fspath(path)
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a path; got {name!r:.200}.")
    if is_url(name):
        raise ValueError(f"{what} must be a path of this machine; got the URL {name}.")
    return no_url(Path(LOCAL.sub("", name)))
