"""Numbers as people write them: 40M rows, 10^9, 1e9, 80GB, 40GiB."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator

FORM = re.compile(r"([0-9][0-9_,]*(?:\.[0-9]+)?)(?:e\+?([0-9]{1,2})|\^([0-9]{1,2}))?\s*([a-z]*)", re.IGNORECASE)
COUNTS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12, "rows": 1}
BYTES = {"": 1, "b": 1} | {
    prefix + unit: base**power
    for power, prefix in enumerate("kmgtp", 1)
    for unit, base in (("", 1000), ("b", 1000), ("ib", 1024))
}


def parse_count(value: Any) -> int:
    """A whole number from 40_000_000, "40M", "10^9" or "1e9 rows"."""
    return _parse(value, COUNTS, "a count such as 40000000, 40M, 1e9 or 10^9")


def parse_bytes(value: Any) -> int:
    """Bytes from 80GB (10^9 each), 40GiB (2^30 each) or a whole number."""
    return _parse(value, BYTES, "a size such as 80GB, 40GiB or 1.5TB")


Count = Annotated[int, BeforeValidator(parse_count)]
Bytes = Annotated[int, BeforeValidator(parse_bytes)]


def _parse(value: Any, units: dict[str, int], wanted: str) -> int:
    exact = _exact(value, units)
    if exact is None or exact != int(exact):
        raise ValueError(f"wanted {wanted}; got {value!r}.")
    return int(exact)


def _exact(value: Any, units: dict[str, int]) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if not isinstance(value, str):
        return Decimal(value) if 0 <= value < float("inf") else None
    found = FORM.fullmatch(value.strip())
    if found is None or found[4].lower() not in units:
        return None
    number = Decimal(re.sub("[_,]", "", found[1]))
    if found[3]:
        number **= int(found[3])
    return number.scaleb(int(found[2] or 0)) * units[found[4].lower()]
