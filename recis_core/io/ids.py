"""Arrow columns of any kind to columns of int64 ids; nulls stay null.

Sizes: N values.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recis_core.io.hashing import hashed, text_id
from recis_core.io.rows import RowError

LOW, HIGH = -(1 << 63), (1 << 63) - 1
Leaf = Callable[[pa.Array], pa.Array]


def integer_ids(values: pa.Array) -> pa.Array:
    """Integers as int64; uint64 keeps its bits, so 2**63 and more become negative."""
    return values.view(pa.int64()) if pa.types.is_uint64(values.type) else values.cast(pa.int64())


def decimal_ids(values: pa.Array) -> pa.Array:
    """Whole numbers stay; other numbers become the hash of their shortest text, so that 1.50 and 1.5 are equal."""
    if values.type.bit_width < 128:  # Arrow does not dictionary-encode these
        values = values.cast(pa.decimal128(38, values.type.scale))
    encoded = values.dictionary_encode()
    return pa.array(map(_decimal_id, encoded.dictionary.to_pylist()), pa.int64()).take(encoded.indices)


def _decimal_id(value: Decimal) -> int:
    whole = value == value.to_integral_value() and LOW <= value <= HIGH
    return int(value) if whole else text_id(decimal_text(value).encode())


def decimal_text(value: Decimal) -> str:
    """The shortest text: "1.5" of 1.50, "100" of 100."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def whole_ids(values: pa.Array) -> pa.Array:
    """Ids of floats that are whole numbers, as pandas writes integers with nulls; NaN is null.

    Raises:
      RowError: a float is no whole number, or is 2**53 or more, where floats do not hold every integer.
    """
    floats = values.cast(pa.float64())
    numbers = np.nan_to_num(floats.to_numpy(zero_copy_only=False), nan=0.0)
    wrong = (numbers != np.floor(numbers)) | (np.abs(numbers) >= 2.0**53)
    if wrong.any():
        n = int(wrong.argmax())
        raise RowError(n, f"must be a whole number below 2**53 to be an id; got {floats[n].as_py()!r}.")
    missing = pc.fill_null(pc.is_nan(floats), True).to_numpy(zero_copy_only=False)
    return pa.array(numbers.astype(np.int64), mask=missing)


def text_of(values: pa.Array) -> pa.Array:
    """Any kind as text: 1 and 1.0 become "1", a bool "true", a date its ISO form."""
    kind = values.type
    if pa.types.is_decimal(kind):
        return pa.array([None if v is None else decimal_text(v) for v in values.to_pylist()], pa.large_string())
    if pa.types.is_floating(kind):
        return pa.array(map(_float_text, values.to_pylist()), pa.large_string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return values
    return values.cast(pa.large_string())


def _float_text(value: Any) -> str | None:
    if value is None or value != value:
        return None
    return str(int(value)) if abs(value) < 2.0**53 and value == int(value) else repr(value)


def text_ids(values: pa.Array) -> pa.Array:
    """The hash of each value's text."""
    return hashed(text_of(values))


# By kind: from values to ids; dates and times by `time_units.counted`.
LEAVES: dict[str, Leaf] = {
    "integer": integer_ids,
    "boolean": lambda values: values.cast(pa.int64()),
    "decimal": decimal_ids,
    "text": hashed,
    "floating": whole_ids,
    "null": lambda values: values.cast(pa.int64()),
}
