"""Rows of files with their places in the files, so that errors can name a row.

Sizes: n rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

Numbers = range | np.ndarray  # row numbers in a file, from 0
Place = Callable[[int], tuple[str, int]]


class RowError(Exception):
    """A value cannot be read; `row` counts in the array at hand. `at` makes a ValueError of it, with the file's row."""

    def __init__(self, row: int, what: str) -> None:
        super().__init__(what)
        self.row, self.what = int(row), what

    def at(self, place: Place, column: str) -> ValueError:
        """An error that names file, column and row."""
        path, row = place(self.row)
        return ValueError(f"{path}, column {column!r}, row {row} (the first is 0): {self.what}")


@dataclass(frozen=True)
class Rows:
    """table: [n]. origins: (file, row numbers in the file), one after another, n rows in all."""

    table: pa.Table
    origins: tuple[tuple[str, Numbers], ...]

    def __len__(self) -> int:
        return len(self.table)

    def slice(self, begin: int, rows: int) -> Rows:
        """Rows begin .. begin + rows, in the same memory."""
        origins, at = [], 0
        for path, numbers in self.origins:
            low, high = max(begin - at, 0), min(begin + rows - at, len(numbers))
            if low < high:
                origins.append((path, numbers[low:high]))
            at += len(numbers)
        return Rows(self.table.slice(begin, rows), tuple(origins))

    def place(self, row: int) -> tuple[str, int]:
        """(file, row number in the file) of a row."""
        path, numbers = self.slice(row, 1).origins[0]
        return path, int(numbers[0])


@dataclass(frozen=True)
class Reordered(Rows):
    """Rows `chosen` of other rows, whose places are those of the others."""

    others: Rows
    chosen: np.ndarray

    def place(self, row: int) -> tuple[str, int]:
        return self.others.place(int(self.chosen[row]))


def joined(parts: list[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    return Rows(pa.concat_tables([part.table for part in parts]), tuple(o for part in parts for o in part.origins))
