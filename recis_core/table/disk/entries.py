"""The entries of the index: in memory while they are few, then in a mapped file.

Keys come in no order, so each write dirties a page. The system writes a file's dirty pages to disk, again and again once
there are many. Memory has no such cost.

The file has no name and ends with the process: a crash may tear it, and reading the segments' keys again is cheap. Its
space is allocated before it is written, so a full disk is an error of a call, not a signal.
"""

from __future__ import annotations

import os
import tempfile
from mmap import MADV_DONTNEED, MADV_RANDOM
from pathlib import Path
from typing import IO

import numpy as np

from recis_core.backends.tier_loops.disk_index import ENTRY
from recis_core.table.disk.disk_space import room_for, write_at
from recis_core.table.disk.mapping import Mapping


class Entries:
    """`array`, ENTRY [slots], may be another after `grow` and `to_disk`."""

    def __init__(self, path: Path, slots: int, memory: int) -> None:
        """path: for messages, and beside it the file; memory: bytes beyond which entries go there."""
        self._path, self._length, self._memory = path, slots * ENTRY.itemsize, memory
        self._file: IO[bytes] | None = None
        self._size = 0
        self._hold(Mapping(self._length))
        self._map.advise_large_pages()

    def _hold(self, map_: Mapping) -> None:
        self._map, self.array = map_, map_.array(ENTRY)

    @property
    def memory_bytes(self) -> int:
        return self._size if self._file is None else 0

    @property
    def disk_bytes(self) -> int:
        return 0 if self._file is None else self._size

    def grow(self, size: int) -> None:
        """Make room for the first `size` bytes.

        Raises:
          StorageFull: entries are as before.
        """
        if size > self._memory:
            self.to_disk()
        if self._file is not None and size > self._size:
            self._allocate(self._file, self._size, size)
        self._size = max(self._size, size)

    def to_disk(self) -> None:
        """Move the entries from memory to a file.

        Raises:
          StorageFull: it stays.
        """
        if self._file is not None:
            return
        with room_for(self._path, self._size):
            file = tempfile.TemporaryFile(dir=self._path.parent, buffering=0)  # noqa: SIM115, closed by close()
        try:
            self._allocate(file, 0, self._size)
            write_at(self._path, file.fileno(), self.array.view(np.uint8)[: self._size], 0)
            map_ = Mapping(self._length, file.fileno(), writable=True)
            map_.advise(MADV_RANDOM)
        except BaseException:
            file.close()
            raise
        self._file = file
        self._hold(map_)

    def _allocate(self, file: IO[bytes], have: int, size: int) -> None:
        if size > have:
            with room_for(self._path, size - have):
                os.posix_fallocate(file.fileno(), have, size - have)

    def let_go(self) -> None:
        """Unmap the file's pages; the page cache keeps them."""
        if self._file is not None:
            self._map.advise(MADV_DONTNEED)

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
        self.__dict__.pop("array", None)
        self.__dict__.pop("_map", None)
