"""What a column holds, piece by piece: nulls, distinct and frequent values, lengths of lists, numbers.

Sizes: n rows, N values.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from recis_core.hashing import hash_texts
from recis_core.io.columns import levels_of
from recis_core.io.hyperloglog import HyperLogLog, mixed
from recis_core.io.kinds import TESTS, is_list, leaf_type
from recis_core.io.leaves import decoded
from recis_core.io.plain_value import shown
from recis_core.io.top_values import TopValues

SHOWN = 5  # frequent values
SIZES = (1, 10, 100, 1000)


class ColumnProfile:
    """Counts of one column; `add` takes its pieces, `summary` says what was found. types: of the column, by file."""

    def __init__(self, types: Sequence[pa.DataType]) -> None:
        self._kind = common_leaf(types)
        self.rows = self.null_rows = self.values = self.null_values = self.not_finite = 0
        self.distinct, self.top = HyperLogLog(), TopValues()
        self.lengths: Counter[int] = Counter()  # rows by number of values
        self.powers: Counter[int] = Counter()  # numbers by sign and power of two
        self._sum = 0.0
        self._low: tuple[float, Any] | None = None
        self._high: tuple[float, Any] | None = None

    def add(self, array: pa.Array) -> None:
        """array: one piece, of any type that readers take."""
        self.rows += len(array)
        self.null_rows += array.null_count
        array = decoded(array)
        levels, values = levels_of(array)
        if is_list(array.type):
            self._count_lengths(levels)
        self.null_values += values.null_count if is_list(array.type) else 0
        values = values.drop_null()
        self.values += len(values)
        if len(values) and self._kind is not None:
            self._add_values(values if values.type == self._kind else values.cast(self._kind, safe=False))

    def _count_lengths(self, levels: list[np.ndarray]) -> None:
        bounds = levels[0]
        for offsets in levels[1:]:
            bounds = offsets[bounds]
        lengths, rows = np.unique(np.diff(bounds), return_counts=True)
        self.lengths.update(dict(zip(lengths.tolist(), rows.tolist(), strict=True)))

    def _add_values(self, values: pa.Array) -> None:
        kind = values.type
        if TESTS["text"](kind):
            self.distinct.add(np.asarray(hash_texts(values, "xxh3")).view(np.uint64))
        elif TESTS["floating"](kind):
            self._add_floats(values.to_numpy())
        else:
            numbers = _integers(values)
            self.distinct.add(mixed(numbers))
            self._bound(*((int(numbers[n]), values[int(n)]) for n in (numbers.argmin(), numbers.argmax())))
            if TESTS["integer"](kind) or TESTS["boolean"](kind):
                self._sum += float(
                    values.cast(pa.int8()).to_numpy().sum() if TESTS["boolean"](kind) else _total(values)
                )
                self._count_powers(values.cast(pa.float64(), safe=False).to_numpy())
        if not TESTS["floating"](kind):
            self.top.add(values)

    def _add_floats(self, floats: np.ndarray) -> None:
        self.distinct.add(mixed(floats + 0.0))  # -0.0 and 0.0 are equal
        finite = floats[np.isfinite(floats)]
        self.not_finite += len(floats) - len(finite)
        if len(finite):
            self._sum += float(math.fsum(finite.tolist())) if len(finite) < 64 else float(finite.sum())
            self._count_powers(finite)
            self._bound(*((float(end), float(end)) for end in (finite.min(), finite.max())))

    def _count_powers(self, numbers: np.ndarray) -> None:
        """By the power of two below: 2000 + exponent of positive, -2000 - exponent of negative numbers, 0 of zero."""
        powers = np.where(numbers == 0, 0, np.sign(numbers) * (2000 + np.frexp(numbers)[1] - 1)).astype(np.int64)
        found, counts = np.unique(powers, return_counts=True)
        self.powers.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))

    def _bound(self, low: tuple[float, Any], high: tuple[float, Any]) -> None:
        """low, high: (number to compare, value to show)."""
        self._low = low if self._low is None or low[0] < self._low[0] else self._low
        self._high = high if self._high is None or self._high[0] < high[0] else self._high

    @property
    def _counts_frequent(self) -> bool:
        return self._kind is not None and not TESTS["floating"](self._kind)

    def _skew(self) -> dict[str, Any]:
        """Frequent values. Shares are too low by top_error at most."""
        most = [(value, count) for value, count in self.top.most(SHOWN) if count > self.top.missed]
        held = self.top.held_by(SIZES)
        return {
            "top": [{"value": value, "share": count / self.values} for value, count in most],
            "top_error": self.top.missed / self.values,
            "share_of_top": {str(size): count / self.values for size, count in zip(SIZES, held, strict=True)},
        }

    @property
    def is_number(self) -> bool:
        return self._kind is not None and any(TESTS[test](self._kind) for test in ("integer", "floating", "boolean"))

    def summary(self) -> dict[str, Any]:
        """Plain values, for JSON. Shares are of values; distinct is HyperLogLog's estimate, or exact where few are."""
        found: dict[str, Any] = {
            "rows": self.rows,
            "null_rows": self.null_rows,
            "null_rate": self.null_rows / self.rows if self.rows else 0.0,
            "values": self.values,
        }
        if self.lengths:
            found["empty_rate"] = self.lengths[0] / self.rows
            found |= {"nulls_in_lists": self.null_values, "lengths": self._lengths()}
        if self.values and self._kind is not None:
            exact = self.top.distinct
            found["distinct"] = round(self.distinct.estimate()) if exact is None else exact
            if self._counts_frequent:
                found |= self._skew()
        if self._low is not None and self._high is not None:
            found |= {"min": shown(self._low[1]), "max": shown(self._high[1])}
        if self.is_number and self.values > self.not_finite:
            found["mean"] = self._sum / (self.values - self.not_finite)
        if self._kind is not None and TESTS["floating"](self._kind):
            found["not_finite"] = self.not_finite
        return found

    def plots(self) -> dict[str, list[tuple[str, int]]]:
        """{title: bars}, a bar being (text, count)."""
        frequent = [(str(value), count) for value, count in self.top.most(12) if count > self.top.missed]
        held = zip(SIZES, self.top.held_by(SIZES), strict=True) if self._counts_frequent else []
        return {
            "rows by null": [("null", self.null_rows), ("a value", self.rows - self.null_rows)]
            if self.null_rows
            else [],
            "most frequent values": frequent,
            "values that are one of the most frequent 1, 10, …": [(f"{size:,}", count) for size, count in held],
            "rows by length": _length_bars(self.lengths),
            "values by size": [(_power_text(power), count) for power, count in _power_bars(self.powers)],
        }

    def _lengths(self) -> dict[str, float]:
        lengths = np.array(sorted(self.lengths))
        below = np.cumsum([self.lengths[int(length)] for length in lengths])

        def at(share: float) -> int:
            return int(lengths[np.searchsorted(below, math.ceil(share * below[-1]))])

        mean = sum(length * rows for length, rows in self.lengths.items()) / int(below[-1])
        return {"min": int(lengths[0]), "median": at(0.5), "p99": at(0.99), "max": int(lengths[-1]), "mean": mean}


def common_leaf(types: Sequence[pa.DataType]) -> pa.DataType | None:
    """One type for the values of files, which go together; None where all are null."""
    leaves = [leaf for leaf in map(leaf_type, types) if not pa.types.is_null(leaf)]
    if not leaves:
        return None
    if any(TESTS[test](leaf) for leaf in leaves for test in ("floating", "decimal")):
        return pa.float64()
    if any(map(pa.types.is_integer, leaves)):
        return pa.uint64() if all(map(pa.types.is_uint64, leaves)) else pa.int64()
    if all(map(TESTS["text"], leaves)):
        text = all(pa.types.is_string(leaf) or pa.types.is_large_string(leaf) for leaf in leaves)
        return pa.large_string() if text else pa.large_binary()
    return leaves[0]


def _total(values: pa.Array) -> int:
    """Exact: of 64-bit integers Arrow's own sum wraps."""
    numbers = values.to_numpy()
    return int((numbers >> 32).astype(np.int64).sum()) * (1 << 32) + int((numbers & 0xFFFFFFFF).astype(np.int64).sum())


def _integers(values: pa.Array) -> np.ndarray:
    """int64 or uint64 [N] of integers, bools, dates and times."""
    if TESTS["boolean"](values.type):
        return values.cast(pa.int8()).to_numpy().astype(np.int64)
    if pa.types.is_date32(values.type) or pa.types.is_time32(values.type):
        return values.view(pa.int32()).to_numpy().astype(np.int64)
    return values.view(pa.int64()).to_numpy() if not TESTS["integer"](values.type) else values.to_numpy()


def _length_bars(lengths: Counter[int]) -> list[tuple[str, int]]:
    """0, 1, 2 to 3, 4 to 7, …"""
    bars: Counter[int] = Counter()
    for length, rows in lengths.items():
        bars[length.bit_length()] += rows
    return [(_length_text(bits), rows) for bits, rows in sorted(bars.items())]


def _length_text(bits: int) -> str:
    return str(bits) if bits < 2 else f"{1 << bits - 1:,} to {(1 << bits) - 1:,}"


def _power_bars(powers: Counter[int]) -> list[tuple[int, int]]:
    """From the lowest number to the highest, in 24 bars at most: the smallest sizes are one with zero."""
    found = sorted(powers.items())
    if len(found) <= 24:
        return found
    largest = dict(sorted(found, key=lambda bar: -abs(bar[0]))[:23])
    largest[0] = sum(count for power, count in found if power not in largest)
    return sorted(largest.items())


def _power_text(power: int) -> str:
    if power == 0:
        return "0"
    exponent = abs(power) - 2000
    return f"{'-' if power < 0 else ''}{2.0**exponent:.3g} …"
