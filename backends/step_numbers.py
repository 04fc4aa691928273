"""The numbers of one optimizer step as float32 arithmetic takes them, checked at one place for every backend.

Sizes: T logical tables, K numbers of a rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recis_core.backends.spec import FLOAT32_MAX, RULES, UpdateRule

LEAST = 2.0**-126  # float32's least normal number: XLA and Triton flush what is below
FEW = 100  # numbers
BOUND = 2.0**127  # a rate must be below, so that the power of two above it is a float32


class StepNumbers(NamedTuple):
    """hyper, and the gradient's factor in two parts where one float32 cannot hold it: gradient · ahead · factor."""

    hyper: np.ndarray  # float32 [T, K], contiguous
    factor: np.float32
    ahead: np.float32 | None  # None for 1, which is all but always so


def step_numbers(rule: UpdateRule, hyper: np.ndarray, factor: float, tables: int) -> StepNumbers:
    """hyper and factor, checked; subnormal ones as zeros.

    Raises:
      ValueError: hyper is not [tables, K], or a number is NaN, infinite or from 2¹²⁷ on.
    """
    names = RULES[rule.kind]
    if np.shape(hyper) == (tables, len(names)) and np.size(hyper) <= FEW and _ordinary(hyper, factor):
        return StepNumbers(np.ascontiguousarray(hyper, np.float32), np.float32(factor), None)
    numbers = np.array(hyper, np.float64)
    if numbers.shape != (tables, len(names)):
        raise ValueError(f"hyper of {rule.kind} must be [{tables}, {len(names)}]; got {list(numbers.shape)}.")
    size = np.abs(numbers)
    if not size.max(initial=0) < BOUND:
        table, k = np.argwhere(~(size < BOUND))[0]
        raise ValueError(
            f"{names[k]} must be finite and below 2¹²⁷; got {numbers[table, k]} for logical table {table}."
        )
    numbers[size < LEAST] = 0
    return StepNumbers(numbers.astype(np.float32), *_parts(float(factor)))


def _ordinary(hyper: np.ndarray, factor: float) -> bool:
    """Whether all numbers may be used as they are; in Python, which is faster than numpy for a few numbers."""
    return all(LEAST <= abs(x) < BOUND or x == 0 for x in (*np.asarray(hyper).ravel().tolist(), float(factor)))


def check_line(kind: str, line: Sequence[float], where: str) -> None:
    """The same check of one table's numbers, before any table is stepped. Raises ValueError. where: told after the name."""
    for name, number in zip(RULES[kind], line, strict=True):
        if not abs(number) < BOUND:
            raise ValueError(f"{name}{where} must be finite and below 2¹²⁷; got {number}.")


def _parts(factor: float) -> tuple[np.float32, np.float32 | None]:
    """A factor beyond float32, in two parts: its product with a gradient may still be an ordinary number."""
    if not math.isfinite(factor):
        raise ValueError(f"factor must be finite; got {factor}. A step by it would write NaN or inf into every row.")
    if factor == 0 or LEAST <= abs(factor) <= FLOAT32_MAX:
        return np.float32(factor), None
    ahead = 2.0**-100 if abs(factor) < LEAST else 2.0**100
    rest = max(-FLOAT32_MAX, min(FLOAT32_MAX, factor / ahead))
    return np.float32(rest if abs(rest) >= LEAST else 0.0), np.float32(ahead)
