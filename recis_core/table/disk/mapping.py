"""Memory of mapped files, or reserved and not yet used: what Python's mmap cannot do.

Python's maps keep a file handle each, too many for hundreds of segments, and end where the file ends today. A map here may
be longer than its file. A read past the file's end kills the process, so readers stay within what was written, and first
ask for the length of a file that others can cut.
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
    """`length` bytes at `address`, unmapped with the last reference to this object."""

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
        """Ask for large pages; a system without them ignores it."""
        with suppress(OSError):
            self.advise(mmap.MADV_HUGEPAGE)


class FileHandle:
    """A file to read at random, closed with the last reference to this object."""

    def __init__(self, number: int) -> None:
        """number: of an open handle, which this object closes."""
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
        """Count from here."""
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
