"""Rows of files with the place that each comes from, so that an error can name it.

Sizes: n rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

Numbers = range | np.ndarray  # of rows in a file, from 0
Place = Callable[[int], tuple[str, int]]


class RowError(Exception):
    """A value cannot be read; `row` counts in what was given. `located` makes it a ValueError that names the place."""

    def __init__(self, row: int, what: str) -> None:
        super().__init__(what)
        self.row, self.what = int(row), what


@contextmanager
def located(place: Place, column: str) -> Iterator[None]:
    """A RowError inside as a ValueError of file, column and row."""
    try:
        yield
    except RowError as error:
        path, row = place(error.row)
        raise ValueError(f"{path}, column {column!r}, row {row} (the first is 0): {error.what}") from None


@dataclass(frozen=True)
class Rows:
    """table: [n]. origins: (file, row numbers there), one after another, of n rows in all."""

    table: pa.Table
    origins: tuple[tuple[str, Numbers], ...]

    def __len__(self) -> int:
        return len(self.table)

    def slice(self, begin: int, rows: int) -> Rows:
        """Rows begin .. begin + rows, of the same memory."""
        origins, at = [], 0
        for path, numbers in self.origins:
            low, high = max(begin - at, 0), min(begin + rows - at, len(numbers))
            if low < high:
                origins.append((path, numbers[low:high]))
            at += len(numbers)
        return Rows(self.table.slice(begin, rows), tuple(origins))

    def place(self, row: int) -> tuple[str, int]:
        """(file, row there) of a row."""
        path, numbers = self.slice(row, 1).origins[0]
        return path, int(numbers[0])


def joined(parts: list[Rows]) -> Rows:
    """One after another."""
    if len(parts) == 1:
        return parts[0]
    return Rows(pa.concat_tables([part.table for part in parts]), tuple(o for part in parts for o in part.origins))
