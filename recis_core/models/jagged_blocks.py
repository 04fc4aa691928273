"""Packed sequences as blocks of rows, for attention without padding to the longest.

Sizes: T rows of all sequences, B sequences, C rows of a block, M blocks, n block pairs at a time, H heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST, LARGEST = 8, 64  # rows of a block
AT_ONCE, AT_ONCE_ELSEWHERE = {"cpu": 1 << 20}, 1 << 24  # scores in memory at a time: few enough for a CPU's caches


@dataclass(frozen=True)
class BlockGroup:
    """Sequences that are cut into blocks of one size; a sequence's last block is filled up with zeros.

        sequences   a b c | d e             size 2: blocks   [a b] [c 0] [d e]
        numbers of blocks in their sequence                    0     1     0

    size: C. rows: int64, the packed row of each row here. slots: int64, where in [M·C] that row lies.
    deepest_first: int64 [M], blocks by number, highest first. at_least: at_least[d] blocks have a number of d or more.
    """

    size: int
    rows: Tensor
    slots: Tensor
    deepest_first: Tensor
    at_least: tuple[int, ...]

    @property
    def blocks(self) -> int:
        return self.at_least[0]

    def cut(self, packed: Tensor) -> Tensor:
        """[T, H, …] -> blocks [M, H, C, …]."""
        flat = packed.new_zeros(self.blocks * self.size, *packed.shape[1:])
        flat[self.slots] = packed[self.rows]
        return flat.unflatten(0, (self.blocks, self.size)).transpose(1, 2).contiguous()

    def paste(self, blocks: Tensor, packed: Tensor) -> None:
        """Writes blocks [M, H, C, …] into the rows of packed [T, H, …]."""
        packed[self.rows] = blocks.transpose(1, 2).flatten(0, 1)[self.slots].to(packed.dtype)

    def passes(self, window: int | None, heads: int) -> Iterator[tuple[int, Tensor | None, Tensor, Tensor]]:
        """All pairs of a block of queries and a block of keys, `back` blocks before it, some at a time.

        Yields: back; allowed, bool [C, C] (query, key), None if every query sees every key; numbers of the query blocks and
        of the key blocks, int64 [n]. Every query sees a key in its first pass: itself. Orders are always the same.
        """
        most = max(1, AT_ONCE.get(self.slots.device.type, AT_ONCE_ELSEWHERE) // (heads * self.size**2))
        for back, count in enumerate(self.at_least):
            nearest = (back - 1) * self.size + 1
            if window is not None and nearest >= window:
                return
            allowed = self._allowed(back, window)
            for queries in self.deepest_first[:count].split(most):
                yield back, allowed, queries, queries - back

    def distance(self, back: int) -> Tensor:
        """int64 [C, C]: how many rows before the query the key lies, `back` blocks before; negative behind it."""
        at = torch.arange(self.size, device=self.slots.device)
        return back * self.size + at[:, None] - at

    def _allowed(self, back: int, window: int | None) -> Tensor | None:
        farthest = (back + 1) * self.size - 1
        if back and (window is None or farthest < window):
            return None
        distance = self.distance(back)
        allowed = distance >= 0
        return allowed if window is None else allowed & (distance < window)


@dataclass(frozen=True)
class JaggedBlocks:
    """Sequences in groups of similar lengths, made once of offsets and used by all layers of a model.

    rows: T. longest: rows of the longest sequence. groups: those with rows.
    """

    rows: int
    longest: int
    groups: tuple[BlockGroup, ...]

    @classmethod
    def of(cls, offsets: Tensor) -> JaggedBlocks:
        """The blocks of int64 offsets [B + 1]. Offsets on an accelerator are read on the CPU, which waits for them once.

        Blocks have 8, 16, 32 or 64 rows: at most twice a sequence's rows are laid out, and 8 at least.

        Raises:
          ValueError: offsets are not [B + 1], do not begin at 0, or decrease. TypeError: they are not int64.
        """
        here = _checked(offsets)
        lengths = here.diff()
        sizes = sum(((lengths > c).long() * c for c in (8, 16, 32)), torch.full_like(lengths, SMALLEST))
        groups = [
            _group(c, here[:-1][chosen], lengths[chosen], offsets.device)
            for c in (8, 16, 32, LARGEST)
            if bool((chosen := (sizes == c) & (lengths > 0)).any())
        ]
        return cls(int(here[-1]), int(lengths.max()) if len(lengths) else 0, tuple(groups))


def _checked(offsets: Tensor) -> Tensor:
    """Offsets on the CPU."""
    if offsets.dtype != torch.int64:
        raise TypeError(f"offsets must be int64; got {offsets.dtype}.")
    if offsets.dim() != 1 or not len(offsets):
        raise ValueError(f"offsets must be [B + 1], one number for no sequence; got {list(offsets.shape)}.")
    here = offsets.cpu()
    if int(here[0]) or bool((here.diff() < 0).any()):
        raise ValueError("offsets must begin at 0 and never decrease.")
    return here


def _group(size: int, starts: Tensor, lengths: Tensor, device: torch.device) -> BlockGroup:
    blocks = (lengths + size - 1) // size
    first_block = blocks.cumsum(0) - blocks
    within = _counting(lengths)
    numbers = _counting(blocks)
    at_least = torch.bincount(numbers).flip(0).cumsum(0).flip(0)
    return BlockGroup(
        size,
        (starts.repeat_interleave(lengths) + within).to(device),
        (first_block.repeat_interleave(lengths) * size + within).to(device),
        numbers.argsort(descending=True, stable=True).to(device),
        tuple(at_least.tolist()),
    )


def _counting(lengths: Tensor) -> Tensor:
    """0, 1, … of each length, one after the other: [2, 3] -> 0 1 0 1 2."""
    starts = lengths.cumsum(0) - lengths
    return torch.arange(int(lengths.sum())) - starts.repeat_interleave(lengths)
