"""Values of any kind as JSON holds them."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa


def shown(value: Any) -> Any:
    """A value for JSON: numbers, bools and text as they are, others as text."""
    if isinstance(value, pa.Scalar):
        try:
            value = value.as_py()
        except (ValueError, OverflowError):  # years past 9999
            return f"{value.value} of {value.type}"
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list | tuple):
        return [shown(each) for each in value]
    if isinstance(value, dict):
        return {str(key): shown(each) for key, each in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
