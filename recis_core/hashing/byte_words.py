"""Bytes on any device, read as little-endian numbers at any position: two aligned words, shifted together.

Sizes: L bytes, N positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

HALF = (1 << 32) - 1


class ByteWords:
    """The bytes of a column, with zeros behind them."""

    def __init__(self, data: Tensor) -> None:
        words = torch.zeros(len(data) // 8 + 3, dtype=torch.int64, device=data.device)
        self.bytes = words.view(torch.uint8)
        self.bytes[: len(data)] = data.view(torch.uint8)
        self._words = words

    def word(self, position: Tensor) -> Tensor:
        """int64 [N]: the eight bytes from each position on."""
        at, low = position >> 3, (position & 7) << 3
        high = 63 - low
        kept = ((torch.ones_like(low) << high) << 1) - 1
        return ((self._words[at] >> low) & kept) | ((self._words[at + 1] << high) << 1)

    def half(self, position: Tensor) -> Tensor:
        """int64 [N], below 2**32: the four bytes from each position on."""
        return self.word(position) & HALF

    def byte(self, position: Tensor) -> Tensor:
        """int64 [N], 0 to 255."""
        return self.bytes[position].long()


def turns_of(blocks: Tensor) -> tuple[Tensor, list[int]]:
    """For loops over blocks of texts of unequal length: texts in falling order of blocks int64 [N], and how many of the
    first have a block in each turn. Waits for the device once."""
    order = blocks.argsort(descending=True, stable=True)
    ended = torch.bincount(blocks).cumsum(0) if len(blocks) else blocks
    return order, (len(blocks) - ended[:-1]).tolist()
