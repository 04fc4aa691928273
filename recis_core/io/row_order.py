"""The order in which rows of many files are read, and the reader of a range of that order.

Sizes: R rows of all files together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recis_core.backends.errors import RecisError
from recis_core.io.leaves import plain_table
from recis_core.io.rows import Numbers, Rows, joined

SHRUNK = "{} has fewer rows than when it was added: it was rewritten while it is read, or it is damaged."


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
    """Rows first + order of a piece, which begins at row `start` of its file."""

    path: str
    piece: int
    start: int
    first: int
    order: Numbers

    @property
    def numbers(self) -> Numbers:
        """The rows' numbers in the file."""
        begin, order = self.start + self.first, self.order
        return range(begin + order.start, begin + order.stop) if isinstance(order, range) else begin + order


@dataclass(frozen=True)
class RowOrder:
    """Spans one after another, each piece by piece; a shuffle seed permutes spans, pieces, and rows in a piece.

    The order depends on spans, seed and epoch alone: it is equal on every worker, and each reads its range.
    piece_rows: of a file. read_piece: of a file and piece. prepare: converts rows that were read.
    """

    spans: list[Span]
    piece_rows: Callable[[str], list[int]]
    read_piece: Callable[[str, int], pa.Table]
    prepare: Callable[[Rows], Rows]
    seed: int | None
    epoch: int

    def parts(self, begin: int, end: int) -> Iterator[Part]:
        """The parts of pieces that hold rows begin .. end of the order."""
        at = 0
        for number in self._permutation(len(self.spans)):
            span = self.spans[number]
            if begin < at + len(span) and at < end:
                yield from self._span_parts(number, begin - at, end - at)
            at += len(span)

    def _span_parts(self, number: int, begin: int, end: int) -> Iterator[Part]:
        span, at = self.spans[number], 0
        pieces = self._pieces(span)
        for chosen in self._permutation(len(pieces), number):
            piece, start, first, last = pieces[chosen]
            low, high = max(begin - at, 0), min(end - at, last - first)
            if low < high:
                order = self._permutation(last - first, number, piece)[low:high]
                yield Part(span.path, piece, start, first, order)
            at += last - first

    def _pieces(self, span: Span) -> list[tuple[int, int, int, int]]:
        """(piece, its first row in the file, first row, last row) of a span's pieces."""
        pieces, at = [], 0
        for piece, rows in enumerate(self.piece_rows(span.path)):
            low, high = max(span.begin - at, 0), min(span.end - at, rows)
            if low < high:
                pieces.append((piece, at, low, high))
            at += rows
        return pieces

    def _permutation(self, count: int, *where: int) -> range | np.ndarray:
        if self.seed is None:
            return range(count)
        return np.random.default_rng([self.seed, self.epoch, *where]).permutation(count)

    def read(self, part: Part) -> Rows:
        table = self.read_piece(part.path, part.piece)
        if part.first + _last(part.order) >= len(table):
            raise RecisError(SHRUNK.format(part.path))
        if isinstance(part.order, range):
            table = table.slice(part.first + part.order.start, len(part.order))
        else:
            table = plain_table(table).take(pa.array(part.first + part.order))
        return self.prepare(Rows(table, ((part.path, part.numbers),)))


def _last(order: Numbers) -> int:
    return order[-1] if isinstance(order, range) else int(order.max())


def read_rows(order: RowOrder, begin: int, end: int, threads: int) -> Iterator[Rows]:
    """Rows begin .. end of the order, piece by piece; reads `threads` pieces at once."""
    with ThreadPoolExecutor(threads, thread_name_prefix="recis-read") as pool:
        ahead: deque[Future[Rows]] = deque()
        try:
            for part in order.parts(begin, end):
                ahead.append(pool.submit(order.read, part))
                if len(ahead) > threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def cut(parts: Iterator[Rows], sizes: list[int]) -> Iterator[Rows]:
    """The same rows in runs of these sizes; a run inside one part is a view of the part."""
    waiting: list[Rows] = []
    for size in sizes:
        while sum(map(len, waiting)) < size:
            waiting.append(_next(parts))
        whole = joined(waiting)
        yield whole.slice(0, size)
        waiting = [whole.slice(size, len(whole) - size)] if len(whole) > size else []


def _next(parts: Iterator[Rows]) -> Rows:
    part = next(parts, None)
    if part is None:
        raise RecisError(SHRUNK.format("a file"))
    return part
