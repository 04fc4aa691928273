"""Rows of bytes that grow by blocks: no row is ever copied for growth.

Sizes: n rows of a call.
"""

from __future__ import annotations

import numpy as np
import torch

from backends.numba_backend.host_rows import read_blocks, write_blocks
from backends.numba_backend.scratch import empty

BLOCK_BYTES = 4 << 20


class Blocks:
    """uint8 [·, row_bytes]; pinned where CUDA is there, so that copies to the device need no staging."""

    def __init__(self, row_bytes: int) -> None:
        self.row_bytes = row_bytes
        self.rows_a_block = max(1, BLOCK_BYTES // row_bytes)
        self._blocks: list[np.ndarray] = []
        self._bases = np.zeros(0, np.int64)  # their addresses

    @property
    def bytes(self) -> int:
        return sum(block.nbytes for block in self._blocks)

    def make_room(self, rows: int) -> None:
        """Memory of rows that were never written is only promised."""
        if len(self._blocks) * self.rows_a_block >= rows:
            return
        pinned = torch.cuda.is_available()
        while len(self._blocks) * self.rows_a_block < rows:
            block = torch.empty(self.rows_a_block, self.row_bytes, dtype=torch.uint8, pin_memory=pinned)
            self._blocks.append(block.numpy())
        self._bases = np.array([block.ctypes.data for block in self._blocks], np.int64)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """uint8 [n, row_bytes], copied."""
        out = empty((len(rows), self.row_bytes), np.uint8)
        read_blocks(self._bases, self.rows_a_block, rows, out)
        return out

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        """values: uint8 [n, row_bytes]"""
        write_blocks(self._bases, self.rows_a_block, rows, values)
