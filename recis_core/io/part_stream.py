"""The rows of an order, read on threads: part by part, or block by block where blocks are permuted.

Sizes: n rows of a block.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial

import numpy as np
import pyarrow as pa

from recis_core.io.file_reader import FileReader, Prepared, Read
from recis_core.io.intervals import Intervals
from recis_core.io.read_ahead import read_ahead
from recis_core.io.row_order import Block, RowOrder
from recis_core.io.rows import Reordered, joined


def read_rows(order: RowOrder, wanted: Intervals, reader: FileReader, threads: int) -> Generator[Read, None, None]:
    """The wanted rows of the order; `threads` parts are read at once."""
    if order.block:
        return _blocks(order, wanted, reader, threads)
    parts = (part for run in wanted.runs for part in order.parts(*run))
    return read_ahead((partial(reader.read, part) for part in parts), threads, reader.begin_thread)


def _blocks(order: RowOrder, wanted: Intervals, reader: FileReader, threads: int) -> Generator[Read, None, None]:
    """The parts of neighbouring blocks are read once; a block is put together of them, then permuted."""
    runs = [list(order.blocks(*run)) for run in wanted.runs]
    parts = (part for blocks in runs for part in order.parts(blocks[0].start, blocks[-1].stop))
    read = read_ahead((partial(reader.prepared, part) for part in parts), threads, reader.begin_thread)
    waiting: list[Prepared] = []
    try:
        for block in (block for blocks in runs for block in blocks):
            while sum(part.source for part in waiting) < block.stop - block.start:
                waiting.append(next(read))
            whole, waiting = _cut(waiting, block.stop - block.start)
            yield reader.converted(_permuted(whole, block))
    finally:
        read.close()


def _cut(parts: list[Prepared], source: int) -> tuple[Prepared, list[Prepared]]:
    """The first `source` rows of parts, and what is left of the last one."""
    *before, last = parts
    at = source - sum(part.source for part in before)
    split = at if last.kept is None else int(np.searchsorted(last.kept, at))
    head = Prepared(at, last.rows.slice(0, split), None if last.kept is None else last.kept[:split])
    rest = last.rows.slice(split, len(last.rows) - split)
    tail = Prepared(last.source - at, rest, None if last.kept is None else last.kept[split:] - at)
    return _together([*before, head]), [tail] if tail.source else []


def _together(parts: list[Prepared]) -> Prepared:
    kept, at = [], 0
    for part in parts:
        kept.append(at + (np.arange(part.source) if part.kept is None else part.kept))
        at += part.source
    whole = None if all(part.kept is None for part in parts) else np.concatenate(kept)
    return Prepared(at, joined([part.rows for part in parts]), whole)


def _permuted(part: Prepared, block: Block) -> Prepared:
    """The rows that the block chooses, in its order."""
    chosen, kept = block.chosen, None
    if part.kept is not None:
        places = np.full(part.source, -1)
        places[part.kept] = np.arange(len(part.kept))
        found = places[chosen]
        kept = np.flatnonzero(found >= 0)
        chosen = found[kept]
    rows = Reordered(part.rows.table.take(pa.array(chosen)), (), part.rows, chosen)
    return Prepared(len(block.chosen), rows, kept)
