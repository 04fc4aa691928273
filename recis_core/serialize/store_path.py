"""Names in a store that fsspec opens, such as memory://, s3:// or gs://, with the verbs that saved states use of a Path.

A store has no rename that is one act, and no directories to sync. A state there exists once its manifest does, which is
written last.
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast


@dataclass(frozen=True)
class StorePath:
    """fs: fsspec's file system. inner: the name there, without protocol."""

    fs: Any
    inner: str

    @staticmethod
    def of(url: str) -> StorePath:
        """Raises ValueError where fsspec knows no such protocol, ImportError where it lacks a package for it."""
        import fsspec.core

        fs, inner = fsspec.core.url_to_fs(url)
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
        self.fs.invalidate_cache()
        return bool(self.fs.exists(self.inner))

    def names(self) -> list[str]:
        """Of what lies in this folder; empty where there is none."""
        self.fs.invalidate_cache()
        if not self.fs.isdir(self.inner):
            return []
        return sorted({posixpath.basename(str(found).rstrip("/")) for found in self.fs.ls(self.inner, detail=False)})

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Raises FileNotFoundError, OSError."""
        if "memory" in (self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,)):
            yield io.BytesIO(self.fs.cat_file(self.inner))  # its files have one position for all that open them
            return
        with self.fs.open(self.inner, "rb") as file:
            yield cast("BinaryIO", file)

    @contextmanager
    def created(self) -> Iterator[BinaryIO]:
        """The bytes are in the store when the block ends; after an error some may be."""
        self.fs.makedirs(posixpath.dirname(self.inner), exist_ok=True)
        with self.fs.open(self.inner, "wb") as file:
            yield cast("BinaryIO", file)

    def put(self, data: bytes) -> None:
        """Write a file in one call, which object stores do whole or not at all."""
        self.fs.makedirs(posixpath.dirname(self.inner), exist_ok=True)
        self.fs.pipe_file(self.inner, data)

    def remove(self) -> None:
        """The file, or the folder with all in it; nothing where there is none."""
        self.fs.invalidate_cache()
        if self.fs.exists(self.inner):
            self.fs.rm(self.inner, recursive=True)
