"""What a tier below the device does: keep rows of bytes by key.

Sizes: n keys of a call, at most one of each.
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
    numbers: dict[str, int]  # that the last flush kept with the rows

    def find(self, ids: np.ndarray, tables: np.ndarray) -> np.ndarray:
        """int64 [n], where each row is: -1 for none, and another number whenever the row was written again."""
        ...

    def read(self, ids: np.ndarray, tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(bool [n], which are here; uint8 [n, row_bytes], zeros for the others)"""
        ...

    def write(self, ids: np.ndarray, tables: np.ndarray, rows: np.ndarray) -> None:
        """Insert or overwrite.

        Raises:
          TableFull, StorageFull: there is no room.
        """
        ...

    def erase(self, ids: np.ndarray, tables: np.ndarray) -> int:
        """Forget keys; how many rows there were."""
        ...

    def scan(self, chunk: int = 65_536) -> Iterator[Chunk]:
        """All rows, each once, in no promised order. Nothing may be written or erased until it ends."""
        ...

    def __len__(self) -> int: ...

    def flush(self, numbers: Mapping[str, int] | None = None) -> None:
        """Keep all that was written, whatever becomes of this process, and these numbers with it; None keeps the former."""
        ...

    def freed_by_flush(self) -> int:
        """Bytes on disk that a flush would free, of files compacted since the last."""
        ...

    def close(self) -> None:
        """Flush, and give back files and threads."""
        ...

    def stats(self) -> dict[str, int]:
        """Counts and bytes."""
        ...
