"""Where files lie: this machine's folders, or a URL of any file system that fsspec opens (memory://, s3://, gs://, …)."""

from __future__ import annotations

import errno
import glob
import io
import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, cast

import pyarrow as pa
import pyarrow.fs

from recis_core.urls import LOCAL, URL, is_url

NOTHING = "a link to nothing"
KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
CODES = {FileNotFoundError: errno.ENOENT, PermissionError: errno.EACCES}


class FileSystem(Protocol):
    """Names of files are full: of a URL's file system URLs."""

    def named(self, name: str) -> str:
        """The one name of a file or folder that may be written in several ways."""
        ...

    def what(self, name: str) -> str | None:
        """ "file", "folder", None where there is nothing; or what else it is, in words."""
        ...

    def entries(self, folder: str) -> list[tuple[str, str]]:
        """(name, "file", "folder" or what else it is) of what lies in a folder, sorted."""
        ...

    def matches(self, pattern: str) -> list[str]:
        """Names that a glob matches. Raises PermissionError where a folder that it would look into cannot be listed."""
        ...

    def size(self, name: str) -> int: ...

    def open(self, name: str) -> AbstractContextManager[BinaryIO]: ...


class ThisMachine:
    def named(self, name: str) -> str:
        return LOCAL.sub("", name)

    def what(self, name: str) -> str | None:
        try:
            mode = os.stat(name).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        if stat.S_ISREG(mode):
            return "file"
        return "folder" if stat.S_ISDIR(mode) else KINDS.get(stat.S_IFMT(mode), "no regular file")

    def entries(self, folder: str) -> list[tuple[str, str]]:
        found = sorted(os.scandir(folder), key=lambda entry: entry.name)
        return [(entry.path, self._entry(entry)) for entry in found]

    def _entry(self, entry: os.DirEntry[str]) -> str:
        if entry.is_file():
            return "file"
        return "folder" if entry.is_dir() else self.what(entry.path) or NOTHING

    def matches(self, pattern: str) -> list[str]:
        parts = pattern.split(os.sep)
        wild = [glob.has_magic(part) for part in parts]
        for n, part in enumerate(parts):
            if any(wild[: n + 1]):  # glob leaves out what it cannot list or enter, without a word
                folders = os.sep.join(parts[: n + (part == "**")]) or (os.sep if n else os.curdir)
                _require_rights(folders, os.R_OK | os.X_OK if wild[n] else os.X_OK)
        return glob.glob(pattern, recursive=True)

    def size(self, name: str) -> int:
        return os.stat(self.named(name)).st_size

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        return open(self.named(name), "rb")


def _require_rights(folders: str, rights: int) -> None:
    for folder in glob.glob(os.path.join(folders, ""), recursive=True):
        if not os.access(folder, rights, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)


@dataclass(frozen=True)
class Remote:
    """fs: fsspec's. chain: what stands before the protocol, such as "simplecache::"."""

    fs: Any
    chain: str

    def named(self, name: str) -> str:
        return self._url(self._inner(name))

    def _inner(self, name: str) -> str:
        return str(self.fs._strip_protocol(name[len(self.chain) :]))

    def _url(self, inner: str) -> str:
        return self.chain + str(self.fs.unstrip_protocol(inner))

    def what(self, name: str) -> str | None:
        try:
            kind = self.fs.info(self._inner(name))["type"]
        except FileNotFoundError:
            return None
        return "folder" if kind == "directory" else str(kind)

    def entries(self, folder: str) -> list[tuple[str, str]]:
        inner = self._inner(folder).rstrip("/")
        found = [entry for entry in self.fs.ls(inner, detail=True) if entry["name"].rstrip("/") != inner]
        named = [(self._url(entry["name"].rstrip("/")), entry["type"]) for entry in found]
        return sorted((name, "folder" if kind == "directory" else str(kind)) for name, kind in named)

    def matches(self, pattern: str) -> list[str]:
        return [self._url(found) for found in self.fs.glob(self._inner(pattern))]

    def size(self, name: str) -> int:
        return int(self.fs.size(self._inner(name)))

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        if self._shared:
            return io.BytesIO(self.fs.cat_file(self._inner(name)))
        return cast("AbstractContextManager[BinaryIO]", self.fs.open(self._inner(name), "rb"))

    @property
    def _shared(self) -> bool:
        """The memory file system's files have one position for all that open them; they are copied."""
        return "memory" in (self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,))

    def arrow(self, name: str) -> pa.NativeFile:
        if self._shared:
            return pa.BufferReader(self.fs.cat_file(self._inner(name)))
        return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(self.fs)).open_input_file(self._inner(name))


def file_system_of(name: str) -> FileSystem:
    """Raises ValueError where fsspec knows no such protocol, ImportError where it lacks a package for it."""
    return _remote(name) if is_url(name) else ThisMachine()


def _remote(url: str) -> Remote:
    found = URL.match(url)
    return Remote(fs_of(url)[0], "" if found is None else found[1])


def fs_of(url: str) -> tuple[Any, str]:
    """fsspec's file system, and the name there. Raises ValueError, ImportError."""
    import fsspec.core

    try:
        fs, inner = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise ImportError(f"{url} cannot be opened: {error}.") from error
    except ValueError as error:
        raise ValueError(f"{url} cannot be opened: {error}. Give a path, or a URL that fsspec opens.") from error
    return fs, str(inner)


def size_of(name: str) -> int:
    """Bytes of a file. Raises OSError, naming it."""
    with naming(name):
        return file_system_of(name).size(name)


def opened(name: str) -> AbstractContextManager[BinaryIO]:
    """A file's bytes, to read and seek in. Raises OSError, naming it."""
    with naming(name):
        return file_system_of(name).open(name)


@contextmanager
def arrow_file(name: str) -> Iterator[pa.NativeFile]:
    """A file as Arrow reads it."""
    file: pa.NativeFile
    with naming(name):
        file = _remote(name).arrow(name) if is_url(name) else pa.OSFile(LOCAL.sub("", name))
    with file:
        yield file


def relative(name: str, root: str) -> str:
    """A name below a folder, with slashes."""
    if is_url(name):
        return posixpath.relpath(name, root)
    return os.path.relpath(name, root or ".").replace(os.sep, "/")


@contextmanager
def naming(name: str) -> Iterator[None]:
    """fsspec raises OSErrors without number and reason: they get these, and the file's name."""
    try:
        yield
    except (FileNotFoundError, PermissionError) as error:
        if error.errno is not None:
            raise
        code = CODES.get(type(error), errno.EIO)
        raise type(error)(code, os.strerror(code), name) from error
