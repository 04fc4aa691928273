"""Rows of bytes, in blocks: growth adds a block and copies no row.

Sizes: n rows of a call.
"""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import torch

from recis_core.backends.memory import zeroed
from recis_core.backends.numba_backend.scratch import LINE, empty
from recis_core.backends.tier_loops.host_rows import read_parts, write_parts
from recis_core.table.tiers.row_format import Parts

CHUNK = 1024  # rows whose addresses follow each other, at most
BLOCK_BYTES = 16 << 20  # of which most lies on whole huge pages


class RowBlocks:
    """uint8 [·, row_bytes], each row of parts that end at `cuts[1:]`. RowBlocks double up to BLOCK_BYTES.

    Pinned where CUDA is there, so that copies to the device need no staging; else on huge pages.
    """

    def __init__(self, cuts: np.ndarray) -> None:
        self.cuts, self.row_bytes = cuts, int(cuts[-1])
        self._widths: list[int] = np.diff(cuts).tolist()
        self._chunk = max(1, min(CHUNK, BLOCK_BYTES // self.row_bytes))  # rows
        self._blocks: list[np.ndarray] = []
        self._bases = np.zeros(0, np.int64)  # chunks' addresses

    @property
    def bytes(self) -> int:
        return sum(block.nbytes for block in self._blocks)

    def make_room(self, rows: int) -> None:
        """The system gives memory when rows are first written."""
        while len(self._bases) * self._chunk < rows:
            self._add_block()

    def _add_block(self) -> None:
        chunk_bytes = self._chunk * self.row_bytes
        chunks = max(1, min(len(self._bases), BLOCK_BYTES // chunk_bytes))
        block = _new_block((chunks * self._chunk, self.row_bytes))
        bases = np.concatenate([self._bases, block.ctypes.data + chunk_bytes * np.arange(chunks)])
        self._blocks, self._bases = [*self._blocks, block], bases

    def read(self, rows: np.ndarray) -> np.ndarray:
        """uint8 [n, row_bytes], copied."""
        out = empty((len(rows), self.row_bytes), np.uint8)
        read_parts(self._bases, self._chunk, self.cuts[[0, -1]], rows, (out,))
        return out

    def read_parts(self, rows: np.ndarray) -> Parts:
        """As `read`, each part for itself, from the start of a cache line on."""
        n, ends = len(rows), list(accumulate(-(-len(rows) * width // LINE) * LINE for width in self._widths))
        memory, begins = empty(ends[-1], np.uint8), [0, *ends[:-1]]
        parts = tuple(
            memory[beg : beg + n * width].reshape(n, width) for beg, width in zip(begins, self._widths, strict=True)
        )
        read_parts(self._bases, self._chunk, self.cuts, rows, parts)
        return parts

    def write(self, rows: np.ndarray, parts: Parts) -> None:
        """Distinct rows."""
        write_parts(self._bases, self._chunk, self.cuts, rows, parts)


def _new_block(shape: tuple[int, int]) -> np.ndarray:
    if torch.cuda.is_available():
        return torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()
    return zeroed(shape, np.dtype(np.uint8))
