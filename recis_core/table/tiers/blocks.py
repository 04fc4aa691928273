"""Rows of bytes that grow by blocks: no row is ever copied for growth.

Sizes: n rows of a call.
"""

from __future__ import annotations

import numpy as np
import torch

from backends.numba_backend.host_rows import read_parts, write_parts
from backends.numba_backend.memory import zeroed
from backends.numba_backend.scratch import empty
from recis_core.table.tiers.row_format import Parts

BLOCK_BYTES = 16 << 20  # of which most lies on whole huge pages


class Blocks:
    """uint8 [·, row_bytes], each row of parts that end at `cuts[1:]`.

    Pinned where CUDA is there, so that copies to the device need no staging; else on huge pages.
    """

    def __init__(self, cuts: np.ndarray) -> None:
        self.cuts, self.row_bytes = cuts, int(cuts[-1])
        self.rows_a_block = max(1, BLOCK_BYTES // self.row_bytes)
        self._blocks: list[np.ndarray] = []
        self._bases = np.zeros(0, np.int64)  # their addresses

    @property
    def bytes(self) -> int:
        return sum(block.nbytes for block in self._blocks)

    def make_room(self, rows: int) -> None:
        """Memory of rows that were never written is only promised."""
        if len(self._blocks) * self.rows_a_block >= rows:
            return
        while len(self._blocks) * self.rows_a_block < rows:
            self._blocks.append(self._new_block())
        self._bases = np.array([block.ctypes.data for block in self._blocks], np.int64)

    def _new_block(self) -> np.ndarray:
        shape = self.rows_a_block, self.row_bytes
        if torch.cuda.is_available():
            return torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()
        return zeroed(shape, np.dtype(np.uint8))

    def read(self, rows: np.ndarray) -> np.ndarray:
        """uint8 [n, row_bytes], copied."""
        out = empty((len(rows), self.row_bytes), np.uint8)
        read_parts(self._bases, self.rows_a_block, self.cuts[[0, -1]], rows, (out,))
        return out

    def read_parts(self, rows: np.ndarray) -> Parts:
        """As `read`, each part for itself."""
        parts = tuple(empty((len(rows), width), np.uint8) for width in np.diff(self.cuts).tolist())
        read_parts(self._bases, self.rows_a_block, self.cuts, rows, parts)
        return parts

    def write(self, rows: np.ndarray, parts: Parts) -> None:
        """Distinct rows."""
        write_parts(self._bases, self.rows_a_block, self.cuts, rows, parts)
