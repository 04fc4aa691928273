"""Which names are URLs, and paths for what takes none."""

from __future__ import annotations

import os
import re
from pathlib import Path

URL = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.-]*::)*)[A-Za-z][A-Za-z0-9+.-]*://")
LOCAL = re.compile(r"^(file|local)://")  # read as paths: their folders are listed whole or not at all


def is_url(name: str) -> bool:
    """Whether a name is of another file system than this machine's."""
    return URL.match(name) is not None and LOCAL.match(name) is None


def local_path(path: str | os.PathLike[str], what: str) -> Path:
    """The path of what lies on this machine alone. what: its name, which begins the message.

    Raises:
      ValueError: it is a URL, of which a Path would make a folder here.
    """
    name = os.fspath(path)
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a path; got {name!r:.200}.")
    if is_url(name):
        raise ValueError(f"{what} must be a path of this machine; got the URL {name}.")
    return Path(LOCAL.sub("", name))
