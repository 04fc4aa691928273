"""Rows as they are at one instant, copied while the table goes on.

    now = RowsNow({"weights": weights, "m": m})     a thread begins to copy the arrays, block by block
    now.keep(rows)                                  these rows are about to change
    now.finish()                                    what is left is copied: the copies are the arrays as they were

`keep` takes no lock, so that a step never waits for a block. It notes rows from `_next` on before they change. A block that
was copied before they changed is right as it is; each other block ends after the note, which is put over it at the end.

Sizes: R rows.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

BLOCK = 1 << 22  # bytes of all arrays that are copied at a time

Arrays = dict[str, np.ndarray]


class RowsNow:
    """arrays: [R, width], which may be written afterwards where `keep` was told. into: memory for the copies, as large."""

    def __init__(self, arrays: Mapping[str, np.ndarray], into: Mapping[str, np.ndarray]) -> None:
        self._arrays, self._into = dict(arrays), dict(into)
        self._rows = min((len(array) for array in arrays.values()), default=0)
        self._next, self._kept = 0, list[tuple[np.ndarray, Arrays]]()
        self._block = max(1, BLOCK // max(1, sum(array[:1].nbytes for array in arrays.values())))
        self._lock, self._process = threading.Lock(), os.getpid()
        self.done = False
        if self._rows > self._block:
            threading.Thread(target=self.finish, name="recis-rows-now").start()
        else:
            self.finish()

    def keep(self, rows: np.ndarray) -> None:
        """Note rows, int [n], before they change; those that are not copied, and -1, are left out."""
        if self.done or not self._here():
            return
        begin = self._next
        late = rows[(rows >= begin) & (rows < self._rows)]
        if len(late):
            self._kept.append((late, {name: array[late] for name, array in self._arrays.items()}))

    def finish(self) -> None:
        """Copy what is left: from then on all rows may change."""
        while not self.done and self._here():
            with self._lock:
                self._go_on()

    def _here(self) -> bool:
        """Whether this is the process that began: in a forked child nobody copies, and nobody asks for copies."""
        return os.getpid() == self._process

    def _go_on(self) -> None:
        if self._next < self._rows:
            end = min(self._next + self._block, self._rows)
            for name, array in self._arrays.items():
                np.copyto(self._into[name][self._next : end], array[self._next : end])  # lets other threads run
            self._next = end
        elif not self.done:
            for rows, values in reversed(self._kept):  # the first note of a row is what was there
                for name, array in values.items():
                    self._into[name][rows] = array
            self.done, self._arrays, self._into, self._kept = True, {}, {}, []


NO_ROWS = np.zeros(0, np.int32)


def keep(copying: list[RowsNow], rows: Any) -> None:
    """Before rows of a table change, int [n], an array or a tensor; None: before any may.

    copying: the copies that are being made; those that are done are taken out.
    """
    for each in copying:
        each.finish() if rows is None else each.keep(np.asarray(rows))
    copying[:] = [each for each in copying if not each.done]
