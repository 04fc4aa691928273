"""The files of paths, globs and folders, and the columns of partition folders."""

from __future__ import annotations

import glob
import logging
import os
import posixpath
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from recis_core.io.file_systems import NOTHING, FileSystem, file_system_of, relative
from recis_core.urls import URL, no_url

LOG = logging.getLogger("recis_core.io")
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def expand(path: str | os.PathLike[str], suffixes: tuple[str, ...]) -> dict[str, dict[str, str | None]]:
    """The files that a path, a glob or a folder names, sorted: {file: {column: value} of its partition folders}.

        clicks/year=2024/part-0.parquet   of the folder clicks   →   {"year": "2024"}

    A folder gives its files that end in a suffix, and those of its folders NAME=VALUE, to any depth. A glob's folder counts
    if its name ends in a suffix, as Spark's folders do, or is NAME=VALUE. Files whose names begin with "." or "_", such as
    _SUCCESS, are left out unless the path names them in full. A URL, such as s3://bucket/clicks/*.parquet, names files of
    fsspec's file systems by the same rules.

    Raises:
      FileNotFoundError: there is no such file. ValueError: what it names is a pipe, a device, a link to nothing, fsspec
        knows no such URL, or the path was made of one.
      ImportError: fsspec lacks a package for it. PermissionError: a folder cannot be listed.
    """
    given = os.fspath(path if isinstance(path, str) else no_url(Path(path)))
    files = file_system_of(given)
    name = files.named(given)
    what = files.what(name)
    if what not in ("folder", None):
        return {_regular(name, what): {}}
    folder = what == "folder"
    found = sorted(dict.fromkeys(_of_folder(files, name, suffixes) if folder else _of_glob(files, name, suffixes)))
    if not found:
        raise FileNotFoundError(_nothing(given, folder, suffixes))
    root = name if folder else _fixed(name)
    return {file: _partitions(relative(file, root)) for file in found}


def _of_folder(files: FileSystem, folder: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    for name, what in files.entries(folder):
        last = base_name(name)
        if last[0] in "._":
            continue
        if last.lower().endswith(suffixes) and what != "folder":
            yield _regular(name, what)
        elif what == "folder" and "=" in last:
            yield from _of_folder(files, name, suffixes)
        elif what == "folder":
            _say_unread(files, name, suffixes)


def _regular(name: str, what: str) -> str:
    """The name of a file. Raises ValueError of anything else, which would be left out without a word."""
    if what == "file":
        return name
    raise ValueError(f"{name} is {what}; it must be a regular file, for it is read in pieces, and again.")


def _say_unread(files: FileSystem, folder: str, suffixes: tuple[str, ...]) -> None:
    """A warning where a folder that is no partition holds files that would be read elsewhere."""
    found = [name for name, what in files.entries(folder) if what == "file" and name.lower().endswith(suffixes)]
    if found:
        LOG.warning("%s is not read: its folder is no NAME=VALUE. A glob with ** reads any depth.", found[0])


def _of_glob(files: FileSystem, pattern: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    for name in files.matches(pattern):
        last, what = base_name(name), files.what(name) or NOTHING
        if last[0] in "._":
            continue
        if what != "folder":
            yield _regular(name, what)
        elif last.lower().endswith(suffixes) or "=" in last:
            yield from _of_folder(files, name, suffixes)


def base_name(name: str) -> str:
    """The last part of a path or URL."""
    return posixpath.basename(os.path.normpath(name).replace(os.sep, "/"))


def _fixed(pattern: str) -> str:
    """The folders of a glob before its first wildcard."""
    url = URL.match(pattern)
    before = "" if url is None else url[0]
    parts = pattern[len(before) :].split(os.sep)
    first = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return before + (os.sep.join(parts[:first]) or (os.sep if pattern.startswith(os.sep) else ""))


def _partitions(relative: str) -> dict[str, str | None]:
    pairs = [part.split("=", 1) for part in relative.split("/")[:-1] if "=" in part]
    return {unquote(key): None if value == NO_VALUE else unquote(value) for key, value in pairs}


def _nothing(name: str, folder: bool, suffixes: tuple[str, ...]) -> str:
    end = suffixes[0]
    if folder:
        return (
            f"add_path must name at least one file; {os.path.join(name, '*' + end)!r} matches none (from {os.getcwd()!r}), "
            f"nor another of {', '.join(suffixes)}. Give {os.path.join(name, '**', '*' + end)!r} for any depth."
        )
    return (
        f"add_path must name at least one file; {name!r} matches none (from {os.getcwd()!r}). "
        "Give a file, a folder or a glob, ** for any depth."
    )
