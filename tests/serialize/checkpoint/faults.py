"""Each operation on files of a save can be made to fail: directories and files made, bytes written, synced, names changed."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recis_core.serialize import part_file, state_directory


class Faults:
    """The `at`-th operation in `folder` raises OSError(code), once; with `only`, the `at`-th of that name.

    hit: the operation that raised, "" if none did. Threads work in any order: the `at`-th of all is now one, now another.
    """

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path, at: int, code: int, only: str = "") -> None:
        self._folder, self._at, self._code, self._only = str(folder), at, code, only
        self._met, self.hit = 0, ""
        self._lock, self._handles = threading.Lock(), set[int]()
        for name in ("mkdir", "rename"):
            patch.setattr(os, name, self._of_path(name, getattr(os, name)))
        patch.setattr(os, "open", self._open(os.open))
        for module, name in ((os, "fsync"), (fcntl, "flock")):
            patch.setattr(module, name, self._of_handle(name, getattr(module, name)))
        patch.setattr(state_directory, "swap_names", self._of_path("swap names", state_directory.swap_names))
        patch.setattr(part_file, "open", self._writing(open), raising=False)

    def meets(self, operation: str, path: str) -> None:
        with self._lock:
            self._met += self._only in ("", operation)
            if self._met == self._at and not self.hit:
                self.hit = operation
                raise OSError(self._code, os.strerror(self._code), path)

    def _of_path(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def met(path: Any, *args: Any, **how: Any) -> Any:
            if os.fspath(path).startswith(self._folder):
                self.meets(name, os.fspath(path))
            return call(path, *args, **how)

        return met

    def _open(self, call: Callable[..., int]) -> Callable[..., int]:
        def met(path: Any, *args: Any, **how: Any) -> int:
            if not os.fspath(path).startswith(self._folder):
                return call(path, *args, **how)
            self.meets("open", os.fspath(path))
            handle = call(path, *args, **how)
            self._handles.add(handle)
            return handle

        return met

    def _of_handle(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def met(handle: int, *args: Any) -> Any:
            if handle in self._handles:
                self.meets(name, os.readlink(f"/proc/self/fd/{handle}"))
            return call(handle, *args)

        return met

    def _writing(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def met(handle: int, mode: str) -> Any:
            file = call(handle, mode)
            return Written(file, self) if mode == "wb" else file

        return met


class Written:
    """A file whose writes can fail."""

    def __init__(self, file: Any, faults: Faults) -> None:
        self._file, self._faults = file, faults

    def write(self, data: Any) -> int:
        self._faults.meets("write", os.readlink(f"/proc/self/fd/{self._file.fileno()}"))
        return self._file.write(data)

    def __enter__(self) -> Written:
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
