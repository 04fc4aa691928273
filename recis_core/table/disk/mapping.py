"""Memory that a file is mapped to, or that is only promised: what Python's mmap cannot do.

Its maps keep a file handle each, which hundreds of segments would run out of, and end where the file ends today.
A map here may be longer than its file; whoever reads past the file's end is killed, so readers know their place, and
ask of a file that others can cut how long it is, before they read.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np

from recis_core.backends.errors import BackendUnavailable

NO_RESERVE = 0x4000  # MAP_NORESERVE of Linux: memory counts once it is touched
PAGE = mmap.PAGESIZE


class Mapping:
    """`length` bytes at `address`, given back when nobody holds this object any more."""

    def __init__(self, length: int, handle: int = -1, *, writable: bool = False) -> None:
        """handle: of the file; -1 for memory, zeroed."""
        self.length = length
        flags = mmap.MAP_SHARED if handle >= 0 else mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable or handle < 0 else 0)
        libc = _libc()
        address = libc.mmap(None, length, access, flags, handle, 0)
        if address == ctypes.c_void_p(-1).value:
            code = ctypes.get_errno()
            raise OSError(code, f"mmap of {length:,} bytes: {os.strerror(code)}")
        self.address: int = address
        try:
            weakref.finalize(self, libc.munmap, address, length).atexit = False
        except BaseException:
            libc.munmap(address, length)
            raise

    def array(self, dtype: np.dtype) -> np.ndarray:
        """All of it. The array does not keep the map: hold both."""
        memory = (ctypes.c_char * self.length).from_address(self.address)
        return np.frombuffer(memory, dtype, self.length // dtype.itemsize)

    def advise(self, advice: int) -> None:
        if _libc().madvise(self.address, self.length, advice) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"madvise({advice}): {os.strerror(code)}")

    def advise_large_pages(self) -> None:
        """A wish, which a system without them need not grant."""
        with suppress(OSError):
            self.advise(mmap.MADV_HUGEPAGE)


class FileHandle:
    """A file to read at random, closed when nobody holds this object any more."""

    def __init__(self, number: int) -> None:
        """number: of a handle, this object's from now on."""
        self.number = number
        weakref.finalize(self, os.close, number).atexit = False
        os.posix_fadvise(number, 0, 0, os.POSIX_FADV_RANDOM)


@cache
def _libc() -> ctypes.CDLL:
    if not hasattr(os, "posix_fallocate") or not Path("/proc/self/statm").exists():
        raise BackendUnavailable("The disk tier needs Linux. Leave it out here: a table without it lives in memory.")
    libc = ctypes.CDLL(None, use_errno=True)
    size, word = ctypes.c_size_t, ctypes.c_int
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, size, word, word, word, ctypes.c_int64)
    libc.munmap.argtypes = (ctypes.c_void_p, size)
    libc.madvise.argtypes = (ctypes.c_void_p, size, word)
    return libc


class MappedMemory:
    """How much of this process's memory is pages of files."""

    def __init__(self) -> None:
        self._statm = os.open("/proc/self/statm", os.O_RDONLY)
        self.restart()

    def restart(self) -> None:
        """What there is now is somebody else's."""
        self._before = self._pages()

    def grown(self) -> int:
        """Bytes more than at the last restart."""
        return (self._pages() - self._before) * PAGE

    def _pages(self) -> int:
        return int(os.pread(self._statm, 256, 0).split()[2])

    def close(self) -> None:
        handle, self._statm = self._statm, -1
        if handle >= 0:
            os.close(handle)
