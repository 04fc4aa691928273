"""The most frequent values of a column in bounded memory: Misra and Gries' counters, 1982."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from recis_core.io.plain_value import shown


class TopValues:
    """Counts of at most `capacity` values. A count is too low by `missed` at most, which is at most N / capacity."""

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity, self.missed = capacity, 0
        self._held: pa.Table | None = None

    def add(self, values: pa.Array) -> None:
        """values: of one type, without nulls."""
        counted = values.value_counts()
        new = pa.table({"value": counted.field("values"), "count": counted.field("counts")})
        both = new if self._held is None else pa.concat_tables([self._held, new])
        grouped = both.group_by("value").aggregate([("count", "sum")])
        self._held = self._cut(grouped.rename_columns(["value", "count"]))

    def _cut(self, table: pa.Table) -> pa.Table:
        """What all counts lose, so that few enough are left, is at most the largest that goes."""
        if len(table) <= self._capacity:
            return table
        counts = table["count"].to_numpy()
        least = int(np.partition(counts, len(counts) - self._capacity - 1)[len(counts) - self._capacity - 1])
        self.missed += least
        kept = counts > least
        return pa.table({"value": table["value"].filter(pa.array(kept)), "count": counts[kept] - least})

    @property
    def distinct(self) -> int | None:
        """Exactly, where all values are held; else None."""
        return None if self.missed or self._held is None else len(self._held)

    def held_by(self, sizes: Sequence[int]) -> list[int]:
        """How many values the most frequent 1, 10, … are, at least."""
        counts = np.zeros(0, np.int64) if self._held is None else np.sort(self._held["count"].to_numpy())[::-1]
        return [int(counts[:size].sum()) for size in sizes]

    def most(self, n: int) -> list[tuple[Any, int]]:
        """(value as JSON holds it, count) of the most frequent, by count, then as text."""
        if self._held is None:
            return []
        best = self._held.take(np.argsort(-self._held["count"].to_numpy(), kind="stable")[: 4 * n])
        pairs = zip(map(shown, best["value"]), best["count"].to_pylist(), strict=True)
        return sorted(pairs, key=lambda pair: (-pair[1], str(pair[0])))[:n]
