"""The order in which the rows of many files are read in an epoch: a function of files, seed and epoch alone.

Sizes: R rows of an epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from recis_core.io.rows import Numbers

LATER = (1 << 32) - 1  # no span has this number: spans of files that came later are permuted by a key of their own


@dataclass(frozen=True)
class Span:
    """Rows begin .. end of a file."""

    path: str
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin


def window(files: dict[str, int], begin: int, end: int) -> list[Span]:
    """The spans of rows begin .. end of files {path: rows}, one after another; files without rows are left out."""
    spans, at = [], 0
    for path, rows in files.items():
        low, high = max(begin - at, 0), min(end - at, rows)
        if low < high:
            spans.append(Span(path, low, high))
        at += rows
    return spans


@dataclass(frozen=True)
class Part:
    """Rows first + order of a piece, which has `rows` rows and begins at row `start` of its file."""

    path: str
    piece: int
    rows: int
    start: int
    first: int
    order: Numbers

    def __len__(self) -> int:
        return len(self.order)

    @property
    def in_piece(self) -> Numbers:
        """The rows' numbers in the piece."""
        first, order = self.first, self.order
        return range(first + order.start, first + order.stop) if isinstance(order, range) else first + order


@dataclass(frozen=True)
class Block:
    """Rows of the order that are read together: of rows start .. stop before blocks are permuted those numbered `chosen`."""

    start: int
    stop: int
    chosen: np.ndarray


@dataclass(frozen=True)
class RowOrder:
    """Spans one after another, each piece by piece; then blocks of rows are permuted.

    groups: spans; those of files that came during the epoch are groups of their own, after the others.
    piece_rows: of a file.
    seed: permutes spans of a group, pieces of a span, and rows of a piece; None leaves them in order.
    block: rows that are permuted together, across pieces, by block_seed; 0 for none.
    """

    groups: list[list[Span]]
    piece_rows: Callable[[str], list[int]]
    seed: int | None
    epoch: int
    block: int = 0
    block_seed: int = 0

    def blocks(self, begin: int, end: int) -> Iterator[Block]:
        """The blocks that hold rows begin .. end. None crosses groups, so that files that come later leave it as it is."""
        edges = [0, *accumulate(sum(map(len, group)) for group in self.groups)]
        for number, (low, high) in enumerate(pairwise(edges)):
            first = max(begin - low, 0) // self.block
            for k, start in enumerate(range(low + first * self.block, min(high, end), self.block), first):
                stop = min(start + self.block, high)
                rng = np.random.default_rng([self.block_seed, self.epoch, LATER, number, k])
                order = rng.permutation(stop - start)[max(begin - start, 0) : end - start]
                yield Block(start, stop, order)

    def parts(self, begin: int, end: int) -> Iterator[Part]:
        """The parts of pieces that hold rows begin .. end of the order, before blocks are permuted."""
        at, before = 0, 0
        for k, spans in enumerate(self.groups):
            for number in self._permutation(len(spans), *((LATER, k) if k else ())):
                span = spans[number]
                if begin < at + len(span) and at < end:
                    yield from self._span_parts(before + int(number), span, begin - at, end - at)
                at += len(span)
            before += len(spans)

    def _span_parts(self, number: int, span: Span, begin: int, end: int) -> Iterator[Part]:
        at, pieces = 0, self._pieces(span)
        for chosen in self._permutation(len(pieces), number):
            piece, rows, start, first, last = pieces[chosen]
            low, high = max(begin - at, 0), min(end - at, last - first)
            if low < high:
                order = self._permutation(last - first, number, piece)[low:high]
                yield Part(span.path, piece, rows, start, first, order)
            at += last - first

    def _pieces(self, span: Span) -> list[tuple[int, int, int, int, int]]:
        """(piece, its rows, its first row in the file, first row, last row) of a span's pieces."""
        pieces, at = [], 0
        for piece, rows in enumerate(self.piece_rows(span.path)):
            low, high = max(span.begin - at, 0), min(span.end - at, rows)
            if low < high:
                pieces.append((piece, rows, at, low, high))
            at += rows
        return pieces

    def _permutation(self, count: int, *where: int) -> range | np.ndarray:
        if self.seed is None:
            return range(count)
        return np.random.default_rng([self.seed, self.epoch, *where]).permutation(count)
