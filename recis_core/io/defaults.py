"""Checks whether a column can hold a default value."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from recis_core.io.columns import FLOATS
from recis_core.io.kinds import leaf_type

LOW, HIGH = -(1 << 63), (1 << 63) - 1


def check_numbers(default: Any, name: str) -> list[Any]:
    """A default, one number or a sequence, as a list.

    Raises:
      TypeError: the default holds something else than numbers. ValueError: it is empty.
    """
    values = np.asarray(default, dtype=object).ravel().tolist()
    if not values:
        raise ValueError(f"default_value of {name!r} must hold a number, or as many as a row has; got {default!r}.")
    for value in values:
        if not isinstance(value, numbers.Real | np.bool_):
            raise TypeError(f"default_value of {name!r} must be numbers; got {value!r}. Text and ids: use id_feature.")
    return values


def check_fits(values: list[Any], dtype: torch.dtype, where: str) -> None:
    """Raises ValueError if the column's tensor cannot hold a default."""
    for value in values:
        if dtype == torch.int64 and not _is_int64(value):
            raise ValueError(
                f"{where} holds integers, so its default_value must be an integer of 64 bits; got {value!r}. Give one, or "
                "read the column as floats: dense_feature."
            )
        if dtype.is_floating_point and math.isfinite(value) and abs(value) > torch.finfo(dtype).max:
            raise ValueError(f"{where} is read as {dtype}, which cannot hold the default_value {value!r}.")


def check_default(default: Any, target: pa.DataType, dtype: torch.dtype | None, where: str) -> None:
    """Raises TypeError or ValueError if a column that is read as `target` cannot hold a value for its nulls; None is none."""
    if default is None:
        return
    leaf = leaf_type(target)
    if pa.types.is_large_binary(leaf):
        if not isinstance(default, str | bytes):
            raise TypeError(f"{where} is text, so its default must be str or bytes; got {default!r}.")
        return
    check_fits(
        check_numbers(default, where), dtype or FLOATS[leaf] if pa.types.is_floating(leaf) else torch.int64, where
    )


def _is_int64(value: Any) -> bool:
    return math.isfinite(value) and value == int(value) and LOW <= int(value) <= HIGH
