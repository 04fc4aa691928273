"""Lets the disk begin while a file is still being written."""

from __future__ import annotations

import ctypes
from typing import BinaryIO

SYNC_FILE_RANGE_WRITE = 2


def start_write_back(file: BinaryIO) -> None:
    """Ask the system to write what an open file holds; less is left to wait for in fsync, which tells of errors, too.

    A system without the call writes when it likes.
    """
    start = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if start is not None:
        start(file.fileno(), ctypes.c_int64(0), ctypes.c_int64(0), SYNC_FILE_RANGE_WRITE)
