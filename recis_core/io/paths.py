"""The files of paths, globs and folders, and the columns of partition folders."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator
from urllib.parse import unquote

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def expand(path: str | os.PathLike[str], suffixes: tuple[str, ...]) -> dict[str, dict[str, str | None]]:
    """The files that a path, a glob or a folder names, sorted: {file: {column: value} of its partition folders}.

        clicks/year=2024/part-0.parquet   of the folder clicks   →   {"year": "2024"}

    A folder gives its files that end in a suffix, and those of its folders NAME=VALUE, to any depth. A glob's folder counts
    if its name ends in a suffix, as Spark's folders do, or is NAME=VALUE. Files whose names begin with "." or "_", such as
    _SUCCESS, are left out unless the path names them in full.

    Raises:
      FileNotFoundError: there is no such file. ValueError: the path is a pipe, socket or device.
    """
    name = os.fspath(path)
    if os.path.isfile(name):
        return {name: {}}
    if os.path.exists(name) and not os.path.isdir(name):
        raise ValueError(f"{name} is {_kind(name)}; it must be a regular file, for it is read in pieces, and again.")
    found = sorted(dict.fromkeys(_of_folder(name, suffixes) if os.path.isdir(name) else _of_glob(name, suffixes)))
    if not found:
        raise FileNotFoundError(_nothing(name, suffixes))
    root = name if os.path.isdir(name) else _fixed(name)
    return {file: _partitions(os.path.relpath(file, root or ".")) for file in found}


def _kind(name: str) -> str:
    return KINDS.get(stat.S_IFMT(os.stat(name).st_mode), "no regular file")


def _of_folder(folder: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name[0] in "._":
            continue
        if entry.is_file() and entry.name.lower().endswith(suffixes):
            yield entry.path
        elif entry.is_dir() and "=" in entry.name:
            yield from _of_folder(entry.path, suffixes)


def _of_glob(pattern: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    for name in glob.glob(pattern, recursive=True):
        last = os.path.basename(os.path.normpath(name))
        if last[0] in "._":
            continue
        if os.path.isfile(name):
            yield name
        elif os.path.isdir(name) and (last.lower().endswith(suffixes) or "=" in last):
            yield from _of_folder(name, suffixes)


def _fixed(pattern: str) -> str:
    """The folders of a glob before its first wildcard."""
    parts = pattern.split(os.sep)
    first = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return os.sep.join(parts[:first]) or (os.sep if pattern.startswith(os.sep) else "")


def _partitions(relative: str) -> dict[str, str | None]:
    pairs = [part.split("=", 1) for part in relative.split(os.sep)[:-1] if "=" in part]
    return {unquote(key): None if value == NO_VALUE else unquote(value) for key, value in pairs}


def _nothing(name: str, suffixes: tuple[str, ...]) -> str:
    end = suffixes[0]
    if os.path.isdir(name):
        return (
            f"add_path must name at least one file; {os.path.join(name, '*' + end)!r} matches none (from {os.getcwd()!r}), "
            f"nor another of {', '.join(suffixes)}. Give {os.path.join(name, '**', '*' + end)!r} for any depth."
        )
    return (
        f"add_path must name at least one file; {name!r} matches none (from {os.getcwd()!r}). "
        "Give a file, a folder or a glob, ** for any depth."
    )
