"""Dates, timestamps, times and durations as integers of a stated unit.

Sizes: N values.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "min": 60 * 10**9,
    "hour": 3600 * 10**9,
    "day": 86400 * 10**9,
}
WORDS = {
    "ns": "nanoseconds",
    "us": "microseconds",
    "ms": "milliseconds",
    "s": "seconds",
    "min": "minutes",
    "hour": "hours",
    "day": "days",
}


def check_unit(unit: str | None, name: str) -> None:
    if unit is not None and unit not in NANOSECONDS:
        raise ValueError(f"unit of {name!r} must be one of {', '.join(NANOSECONDS)}; got {unit!r}.")


def counted(values: pa.Array, unit: str) -> pa.Array:
    """int64 [N] in `unit`, rounded down: dates and timestamps since 1970 UTC, times since midnight, durations; null stays.

    Raises:
      pa.ArrowInvalid: 64 bits do not hold a value.
    """
    counts, own, wanted = _counts(values), NANOSECONDS[_unit(values.type)], NANOSECONDS[unit]
    if own >= wanted:
        return counts if own == wanted else pc.multiply_checked(counts, own // wanted)
    floored = pc.fill_null(counts, 0).to_numpy() // (wanted // own)
    return pa.array(floored, mask=None if not values.null_count else ~_valid(values))


def _counts(values: pa.Array) -> pa.Array:
    """The stored integers."""
    narrow = pa.types.is_date32(values.type) or pa.types.is_time32(values.type)
    return values.view(pa.int32()).cast(pa.int64()) if narrow else values.view(pa.int64())


def _valid(values: pa.Array) -> np.ndarray:
    return values.is_valid().to_numpy(zero_copy_only=False)


def _unit(kind: pa.DataType) -> str:
    if pa.types.is_date(kind):
        return "day" if pa.types.is_date32(kind) else "ms"
    return str(kind.unit)


def wanted_in(kind: str, unit: str) -> str:
    """For errors: what a value of this kind must be."""
    if kind == "time":
        return "a time of day"
    since = " since 1970" if kind in ("timestamp", "date") else ""
    return f"a {kind} that {WORDS[unit]}{since} can hold in 64 bits"
