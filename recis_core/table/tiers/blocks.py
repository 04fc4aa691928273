"""Rows of bytes that grow by blocks: no row is ever copied for growth.

Sizes: n rows of a call.
"""

from __future__ import annotations

import numpy as np
import torch

BLOCK_BYTES = 4 << 20


class Blocks:
    """uint8 [·, row_bytes]; pinned where CUDA is there, so that copies to the device need no staging."""

    def __init__(self, row_bytes: int) -> None:
        self.row_bytes = row_bytes
        self.rows_a_block = max(1, BLOCK_BYTES // row_bytes)
        self._blocks: list[np.ndarray] = []

    @property
    def bytes(self) -> int:
        return sum(block.nbytes for block in self._blocks)

    def make_room(self, rows: int) -> None:
        while len(self._blocks) * self.rows_a_block < rows:
            pinned = torch.cuda.is_available()
            block = torch.empty(self.rows_a_block, self.row_bytes, dtype=torch.uint8, pin_memory=pinned)
            self._blocks.append(block.numpy())

    def read(self, rows: np.ndarray) -> np.ndarray:
        """uint8 [n, row_bytes], copied."""
        out = np.empty((len(rows), self.row_bytes), np.uint8)
        for block, where, at in self._by_block(rows):
            out[where] = block[at]
        return out

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        for block, where, at in self._by_block(rows):
            block[at] = values[where]

    def _by_block(self, rows: np.ndarray) -> list[tuple[np.ndarray, np.ndarray | slice, np.ndarray]]:
        if len(self._blocks) == 1:
            return [(self._blocks[0], slice(None), rows)]
        block, at = np.divmod(rows, self.rows_a_block)
        order = np.argsort(block, kind="stable")
        bounds = np.searchsorted(block[order], np.arange(len(self._blocks) + 1))
        parts = [(b, order[bounds[b] : bounds[b + 1]]) for b in np.flatnonzero(np.diff(bounds))]
        return [(self._blocks[b], where, at[where]) for b, where in parts]
