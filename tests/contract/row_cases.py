"""Named rows that every codec must carry. numpy only.

Sizes: U rows, D dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TINY, MAX = np.finfo(np.float32).tiny, np.finfo(np.float32).max


@dataclass(frozen=True)
class Rows:
    """float32 [U, D], and the residual that comes with them."""

    name: str
    values: np.ndarray
    residual: np.ndarray

    def __str__(self) -> str:
        return self.name


def _rows(name: str, values: np.ndarray, residual: np.ndarray | None = None) -> Rows:
    values = np.ascontiguousarray(values, np.float32)
    return Rows(name, values, np.zeros_like(values) if residual is None else residual.astype(np.float32))


def _random(name: str, rows: int, dim: int, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed + 1000 * dim + rows)
    values = rng.standard_normal((rows, dim)) * 10.0 ** rng.integers(-6, 6, (rows, 1))
    return _rows(name, values, values[:, ::-1] * 0.02)


def _magnitudes(name: str, low: int, high: int) -> Rows:
    """Powers of two of this range, mixed in a row, and rows of one size."""
    rng = np.random.default_rng(high - low)
    exponent = np.concatenate([rng.integers(low, high, (20, 16)), np.repeat(rng.integers(low, high, (20, 1)), 16, 1)])
    values = np.ldexp(rng.uniform(-1, 1, exponent.shape), exponent)
    return _rows(name, values, values[::-1] * 0.3)


def _not_finite() -> Rows:
    rng = np.random.default_rng(7)
    values = rng.standard_normal((9, 7)).astype(np.float32)
    values[1, 3], values[2], values[4, 0], values[8, 6] = np.nan, np.inf, -np.inf, np.nan
    values[5] = np.array([0x7FC12345, 0xFFC00001, 0x3F800000] + [0x7F800000] * 4, np.uint32).view(np.float32)
    return _rows("not_finite", values, rng.standard_normal((9, 7)) * 0.01)


def _ties() -> Rows:
    """Halves between neighbours of integer codes, and the numbers beside them."""
    k = np.arange(-127, 128, dtype=np.float32) / 2
    values = np.stack(
        [np.append(x, [63.5]) for x in (k, np.nextafter(k, np.float32(99)), np.nextafter(k, np.float32(0)))]
    )
    return _rows("ties", values)


def _float_ties() -> Rows:
    """Beside a row's largest, 448: halves between float8 numbers; alone, halves between float16 and bfloat16 ones."""
    eighths = (2 * np.arange(0, 120) + 1) * 2.0**-4
    sixteen = 1 + (2 * np.arange(120) + 1) * 2.0**-11
    eight = 1 + (2 * np.arange(120) + 1) * 2.0**-8
    return _rows(
        "float_ties", np.stack([np.append(x, 448) for x in (eighths, eighths * 2.0**-6, sixteen, eight, -eight)])
    )


def _overflow() -> Rows:
    values = np.array([[MAX, -MAX, 3.4e38, 65504], [65505, 65520, -70000, 1], [MAX] * 4, [3.395e38, 3.39e38, 0, -0.0]])
    return _rows("overflow", values, values * np.float32(-0.25))


def _zeros() -> Rows:
    values = np.zeros((4, 16), np.float32)
    values[1] = -0.0
    values[2, 5] = 1e-30
    values[3, 2:5] = [1, -0.0, -2]
    return _rows("zeros", values)


CASES = (
    _random("no_rows", 0, 8),
    _random("one_row", 1, 8),
    _random("dim_1", 20, 1),
    _random("dim_7", 20, 7),
    _random("dim_16", 20, 16),
    _random("dim_64", 70, 64),
    _random("dim_100", 9, 100),
    _random("dim_123", 123, 123),
    _magnitudes("all_magnitudes", -150, 127),
    _magnitudes("subnormal", -149, -120),
    _magnitudes("tiny", -100, -50),
    _magnitudes("small", -40, -5),
    _magnitudes("huge", 100, 128),
    _not_finite(),
    _ties(),
    _float_ties(),
    _overflow(),
    _zeros(),
)


def case(name: str) -> Rows:
    """The case of that name."""
    return next(c for c in CASES if c.name == name)
