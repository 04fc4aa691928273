"""Raw ids as people keep them, in dictionaries and columns, to the int64 ids that tables are looked up by.

Integers are ids as they are, unsigned ones by their bits; text is hashed as readers hash it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from recis_core.io import hash_strings
from recis_core.io.kinds import TESTS, plain_type

LOW, HIGH = -(1 << 63), 1 << 64


def raw_ids(values: Iterable[Any], what: str) -> Tensor:
    """int64 [N] of Python integers, or of texts.

    Raises:
      TypeError: a value is neither integer nor text, or both kinds are there. ValueError: an integer has more than 64 bits.
    """
    listed = list(values)
    kinds = {_kind(value) for value in listed}
    if len(kinds) > 1 or not kinds <= {"integer", "text"}:
        odd = next(value for value in listed if _kind(value) != "integer")
        raise TypeError(
            f"{what} must be all integers or all texts; got {type(odd).__name__} among {', '.join(sorted(kinds))}."
        )
    if kinds == {"text"}:
        return hash_strings(listed)  # type: ignore[return-value]
    beyond = [value for value in listed if not LOW <= value < HIGH]
    if beyond:
        raise ValueError(f"{what} must have 64 bits; got {beyond[0]}.")
    return torch.tensor([int(v) - HIGH if v >= -LOW else int(v) for v in listed], dtype=torch.int64)


def _kind(value: Any) -> str:
    if isinstance(value, str | bytes):
        return "text"
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return "integer" if is_integer else type(value).__name__


def column_ids(column: pa.Array) -> Tensor:
    """int64 [N] of a column of integers or text without nulls.

    Raises:
      TypeError: the column holds neither.
    """
    kind = plain_type(column.type)
    if TESTS["text"](kind):
        return hash_strings(column)  # type: ignore[return-value]
    if not pa.types.is_integer(kind):
        raise TypeError(f"ids must be integers or text; got {column.type}.")
    plain = column.cast(kind)
    wide = plain.view(pa.int64()) if pa.types.is_uint64(kind) else plain.cast(pa.int64())
    return torch.tensor(wide.to_numpy(zero_copy_only=False), dtype=torch.int64)
