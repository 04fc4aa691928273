"""Memory that files of a table take in turn: new pages take longer to come than what is read into them."""

from __future__ import annotations

import sys

import numpy as np

from recis_core.serialize.part_file import Memory


class Reused:
    """Blocks of memory; one is free again when no array or tensor views it. new: gives more. For one thread."""

    def __init__(self, new: Memory) -> None:
        self._new = new
        self._blocks: list[np.ndarray] = []
        self._unheld: list[int] = []  # references to each block's memory while nothing views it

    def take(self, size: int) -> np.ndarray:
        """At least `size` bytes, uint8, and less than twice as many; a view of a block."""
        for k in range(len(self._blocks)):
            if size <= len(self._blocks[k]) < 2 * size and self._references(k) == self._unheld[k]:
                return self._blocks[k][:]
        self._blocks.append(self._new(size))
        self._unheld.append(self._references(len(self._blocks) - 1))
        return self._blocks[-1][:]

    def _references(self, k: int) -> int:
        """To what views of the block refer to: numpy's views of a view refer to the array that it is of."""
        block = self._blocks[k]
        return sys.getrefcount(block if block.base is None else block.base)
