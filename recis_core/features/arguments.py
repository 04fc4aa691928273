"""Arguments of ops: checked when an op is made, and as plain values that JSON and YAML hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

NAMED = {
    "long": torch.int64,
    "int": torch.int32,
    "float": torch.float32,
    "double": torch.float64,
    "half": torch.float16,
}
EXPONENT = "YAML reads 1e-3 as text; write 1.0e-3."


def as_dtype(value: Any, argument: str) -> torch.dtype:
    """A dtype, or its name as "float32"."""
    if isinstance(value, torch.dtype):
        return value
    found = NAMED.get(value, getattr(torch, value, None)) if isinstance(value, str) else None
    if not isinstance(found, torch.dtype):
        raise TypeError(f"{argument} must be a torch.dtype or its name, such as int64 or float32; got {value!r}.")
    return found


def as_whole(value: Any, argument: str, least: int = 1, most: int = (1 << 63) - 1) -> int:
    """An int of least .. most; no bool."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{argument} must be an integer; got {value!r}.")
    if not least <= value <= most:
        raise ValueError(f"{argument} must be in {least} .. {most}; got {value}.")
    return int(value)


def as_number(value: Any, argument: str) -> float:
    """A finite float."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        hint = f" {EXPONENT}" if isinstance(value, str) else ""
        raise TypeError(f"{argument} must be a number; got {value!r}.{hint}")
    if not math.isfinite(value):
        raise ValueError(f"{argument} must be finite; got {value!r}.")
    return float(value)


def as_numbers(value: Any, argument: str) -> tuple[float, ...]:
    """Finite floats."""
    return tuple(as_number(item, f"{argument}[{n}]") for n, item in enumerate(as_list(value, argument)))


def as_list(value: Any, argument: str) -> Sequence[Any]:
    if isinstance(value, torch.Tensor | np.ndarray):
        return list(value.tolist())
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise TypeError(f"{argument} must be a list; got {value!r}.")
    return value


def as_text(value: Any, argument: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be text; got {value!r}.")
    return value


def as_flag(value: Any, argument: str) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{argument} must be true or false; got {value!r}.")
    return value


def one_of(value: Any, argument: str, names: Sequence[Any]) -> Any:
    if value not in names:
        raise ValueError(f"{argument} must be {' or '.join(repr(name) for name in names)}; got {value!r}.")
    return value


def plain(value: Any) -> Any:
    """A checked argument as JSON holds it."""
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value
