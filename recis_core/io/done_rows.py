"""Which rows of which files some rows of an order are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recis_core.io.intervals import Intervals
from recis_core.io.row_order import RowOrder

Numbered = tuple[str, np.ndarray]


def done_rows(order: RowOrder, rows: Intervals) -> dict[str, list[list[int]]]:
    """{file: runs of row numbers in it}, in the order of files' first rows."""
    found: dict[str, list[np.ndarray]] = {}
    for path, numbers in _numbers(order, rows):
        found.setdefault(path, []).append(numbers)
    return {path: _runs(np.sort(np.concatenate(parts))) for path, parts in found.items()}


def _numbers(order: RowOrder, rows: Intervals) -> Iterator[Numbered]:
    for begin, end in rows.runs:
        if not order.block:
            yield from _parts(order, begin, end)
            continue
        for block in order.blocks(begin, end):
            yield from _chosen(list(_parts(order, block.start, block.stop)), np.sort(block.chosen))


def _parts(order: RowOrder, begin: int, end: int) -> Iterator[Numbered]:
    for part in order.parts(begin, end):
        yield part.path, part.start + np.asarray(part.in_piece)


def _chosen(parts: list[Numbered], chosen: np.ndarray) -> Iterator[Numbered]:
    at = 0
    for path, numbers in parts:
        low, high = np.searchsorted(chosen, (at, at + len(numbers)))
        yield path, numbers[chosen[low:high] - at]
        at += len(numbers)


def _runs(numbers: np.ndarray) -> list[list[int]]:
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    return [[int(run[0]), int(run[-1]) + 1] for run in np.split(numbers, breaks) if len(run)]
