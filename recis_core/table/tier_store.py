"""The interface of a tier below the device: rows of bytes by key.

Sizes: n unique keys of a call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np

Chunk = tuple[np.ndarray, np.ndarray, np.ndarray]  # ids int64 [n], tables int32 [n], rows uint8 [n, row_bytes]


class TierStore(Protocol):
    """Rows of `row_bytes` bytes by (table ordinal, id). Several threads may call it.

    A call that raises leaves every row as it was.
    """

    row_bytes: int
    numbers: dict[str, int]  # kept by the last flush beside the rows

    def find(self, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        """int64 [n], the place of each row, -1 for none. A row that is written again gets another place."""
        ...

    def read(self, ids: np.ndarray, tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(found bool [n], rows uint8 [n, row_bytes]; zeros where not found)"""
        ...

    def write(self, ids: np.ndarray, tables: np.ndarray, rows: np.ndarray) -> None:
        """Insert or overwrite.

        Raises:
          TableFull, StorageFull: the tier is full.
        """
        ...

    def erase(self, ids: np.ndarray, tables: np.ndarray) -> int:
        """Erase keys; returns how many had a row."""
        ...

    def scan(self, chunk: int = 65_536) -> Iterator[Chunk]:
        """All rows, each once, in any order. Rows must not be written or erased until it ends."""
        ...

    def __len__(self) -> int: ...

    def flush(self, numbers: Mapping[str, int] | None = None) -> None:
        """Make all writes durable, with these numbers; None keeps the numbers of the last flush."""
        ...

    def freed_by_flush(self) -> int:
        """Bytes on disk that a flush would free: files compacted since the last flush."""
        ...

    def close(self) -> None:
        """Flush, and release files and threads."""
        ...

    def stats(self) -> dict[str, int]: ...
