"""Names in a store that fsspec opens, such as memory://, s3:// or gs://, with the verbs that saved states use of a Path.

A store has no rename that is one act, and no directories to sync. A state there exists once its manifest does, which is
written last. A place is either of the two.
"""

from __future__ import annotations

import io
import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from recis_core.io.file_systems import fs_of
from recis_core.urls import LOCAL, is_url, no_url


@dataclass(frozen=True)
class StorePath:
    """fs: fsspec's file system. inner: the name there, without protocol."""

    fs: Any
    inner: str

    @staticmethod
    def of(url: str) -> StorePath:
        """Raises ValueError where fsspec knows no such protocol, ImportError where it lacks a package for it."""
        fs, inner = fs_of(url)
        return StorePath(fs, inner.rstrip("/"))

    def __truediv__(self, name: str) -> StorePath:
        return StorePath(self.fs, posixpath.join(self.inner, name) if name else self.inner)

    def __str__(self) -> str:
        return str(self.fs.unstrip_protocol(self.inner))

    @property
    def name(self) -> str:
        return posixpath.basename(self.inner)

    @property
    def parent(self) -> StorePath:
        return StorePath(self.fs, posixpath.dirname(self.inner))

    def exists(self) -> bool:
        """Raises what the store raises where it cannot say: fsspec's own `exists` would answer that there is nothing."""
        return self._kind() is not None

    def _kind(self) -> str | None:
        self.fs.invalidate_cache()
        try:
            with self._naming():
                return str(self.fs.info(self.inner)["type"])
        except FileNotFoundError:
            return None

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """What the store's own package raises becomes an OSError that names the place."""
        try:
            yield
        except Exception as error:
            if type(error).__module__.partition(".")[0] in ("builtins", "recis_core"):
                raise
            raise OSError(f"{self}: {type(error).__name__}: {error}") from error

    def names(self) -> list[str]:
        """Of what lies in this folder; empty where there is none. Raises as `exists`."""
        if self._kind() != "directory":
            return []
        with self._naming():
            found = self.fs.ls(self.inner, detail=False)
        return sorted({posixpath.basename(str(name).rstrip("/")) for name in found})

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Raises FileNotFoundError, OSError."""
        if "memory" in (self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,)):
            yield io.BytesIO(self.fs.cat_file(self.inner))  # its files have one position for all that open them
            return
        with self._naming(), self.fs.open(self.inner, "rb") as file:
            yield cast("BinaryIO", file)

    @contextmanager
    def created(self) -> Iterator[BinaryIO]:
        """The bytes are in the store when the block ends; after an error some may be."""
        with self._naming():
            self.fs.makedirs(posixpath.dirname(self.inner), exist_ok=True)
            with self.fs.open(self.inner, "wb") as file:
                yield cast("BinaryIO", file)

    def put(self, data: bytes) -> None:
        """Write a file in one call, which object stores do whole or not at all."""
        with self._naming():
            self.fs.makedirs(posixpath.dirname(self.inner), exist_ok=True)
            self.fs.pipe_file(self.inner, data)

    def remove(self) -> None:
        """The file, or the folder with all in it; nothing where there is none."""
        if self.exists():
            with self._naming():
                self.fs.rm(self.inner, recursive=True)


Place = Path | StorePath  # of a file or directory, on this machine or in a store


def place_of(path: str | os.PathLike[str] | Place) -> Place:
    """Raises TypeError, ValueError."""
    if isinstance(path, StorePath):
        return path
    name = os.fspath(path)
    if not isinstance(name, str):
        raise TypeError(f"a directory of checkpoints is a path or URL; got {name!r:.200}.")
    return StorePath.of(name) if is_url(name) else no_url(Path(LOCAL.sub("", name)))
