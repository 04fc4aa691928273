"""Random inputs that the kernel tests share.

Sizes: N ids, B bags, R rows, D dim.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import ml_dtypes
import numpy as np

DIMS = (1, 7, 8, 16, 64, 100, 128, 256)
FP8 = {"float8_e4m3fn": ml_dtypes.float8_e4m3fn, "float8_e5m2": ml_dtypes.float8_e5m2}
DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16, "int8": np.int8, **FP8}
RTOL = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2, "int8": 1e-5} | dict.fromkeys(FP8, 1e-5)


class Table(NamedTuple):
    """A table as stored, its scale if int8, and the float64 rows that it stands for."""

    stored: jnp.ndarray
    scale: jnp.ndarray | None
    meaning: np.ndarray


def table(rng: np.random.Generator, rows: int, dim: int, dtype: str = "float32", scaled: bool = False) -> Table:
    """scaled: fp8 with a scale a row, which int8 always has."""
    values = rng.standard_normal((rows, dim))
    if dtype != "int8" and not scaled:
        stored = values.astype(DTYPES[dtype])
        return Table(jnp.asarray(stored), None, stored.astype(np.float64))
    scale = (np.abs(values).max(1) / 127).astype(np.float32)
    stored = values / scale[:, None]
    stored = (np.rint(stored) if dtype == "int8" else stored).astype(DTYPES[dtype])
    return Table(jnp.asarray(stored), jnp.asarray(scale), stored.astype(np.float64) * scale[:, None].astype(np.float64))


def offsets_of(lengths: list[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


def bags(
    rng: np.random.Generator, count: int, rows: int, longest: int = 9
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows with some -1, offsets, weights with some 0); first and last bag empty."""
    lengths = rng.integers(0, longest, count)
    lengths[[0, -1]] = 0
    ids = rng.integers(-1, rows, lengths.sum()).astype(np.int32)
    weights = rng.random(len(ids)).astype(np.float32)
    weights[::7] = 0
    return ids, offsets_of(lengths), weights
