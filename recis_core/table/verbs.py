"""What is asked of a logical table's rows beside training, wherever they are.

Sizes: N ids, n rows of a part, D dim.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor


class Verbs(Protocol):
    """NamedTable has them of rows on this rank, SharedVerbs of all ranks' rows."""

    def count(self) -> int:
        """Rows."""
        ...

    def lookup(self, ids: Tensor, unknown: str) -> tuple[Tensor, Tensor]:
        """Rows float32 [N, D] of ids int64 [N], and which of them are there, bool [N]. Counts no use, and moves no row."""
        ...

    def erase(self, ids: Tensor) -> int:
        """Forget ids, with all that waits for them; how many were there."""
        ...

    def items(self, most: int) -> Iterator[tuple[Tensor, Tensor]]:
        """ids int64 [n] and rows float32 [n, D], n ≤ most, on the CPU, in the order in which rows lie: those of this rank.

        Raises:
          RecisError: the table has changed since the part before.
        """
        ...
