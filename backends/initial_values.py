"""Initial values from (seed, uid, id, column): integers to the end, then one fp32 multiply.

A distribution is a table of int32 quantiles and one scale. Every backend looks its
random word up in that table and interpolates in int32, so values agree bit for bit.
Float formulas do not: Box-Muller differs in a quarter of all values between backends.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from statistics import NormalDist

import numpy as np

from recis_core.backends.placement import split_ids

OCTAVES = 24  # tail probability halves this often; the last octave is the clamp
CELLS = 64  # linear pieces in an octave
HALF = OCTAVES * CELLS + 1
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
MIN_TAIL = 1 << (31 - OCTAVES)
MAX_QUANTILE = 1 << 29
WIRE = 1 << 31  # of a counter: optimizers' steps stay below it


@dataclass(frozen=True)
class Distribution:
    """How rows begin. `kind` is constant, uniform, normal or truncated_normal.

    a, b: (value, 0), (low, high), (mean, std) or (mean, std) with bounds low, high.
    """

    kind: str
    a: float
    b: float = 0.0
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if self.kind not in ("constant", "uniform", "normal", "truncated_normal"):
            raise ValueError(f"kind must be constant, uniform, normal or truncated_normal; got {self.kind!r}.")
        if not all(math.isfinite(x) for x in (self.a, self.b)):
            raise ValueError(f"initializer parameters must be finite; got {self.a}, {self.b}.")
        if self.kind == "uniform" and self.a > self.b:
            raise ValueError(f"uniform needs a <= b; got a={self.a}, b={self.b}.")
        if self.kind in ("normal", "truncated_normal") and self.b < 0:
            raise ValueError(f"std must be >= 0; got {self.b}.")
        if not self.low < self.high:
            raise ValueError(f"truncated_normal needs low < high; got {self.low}, {self.high}.")

    @cached_property
    def quantiles(self) -> np.ndarray:
        """int32 [2, HALF]: upper and lower half, from the median outwards."""
        return _quantiles(self)[0]

    @cached_property
    def scale(self) -> np.float32:
        """The one multiplier: value = float32(quantile) * scale."""
        return _quantiles(self)[1]


def _inverse_cdf(d: Distribution) -> Callable[[float], float]:
    if d.kind == "uniform":
        return lambda p: d.a + (d.b - d.a) * p
    if d.kind == "constant" or d.b == 0:
        return lambda p: d.a
    unit = NormalDist()
    if d.kind == "normal":
        return lambda p: d.a + d.b * unit.inv_cdf(p)
    beg, end = unit.cdf((d.low - d.a) / d.b), unit.cdf((d.high - d.a) / d.b)
    if end - beg < 1e-9:
        raise ValueError(f"truncated_normal keeps no mass in [{d.low}, {d.high}] around mean {d.a}.")
    return lambda p: min(max(d.a + d.b * unit.inv_cdf(beg + p * (end - beg)), d.low), d.high)


def _tails() -> list[float]:
    inside = [0.5 * 2.0**-e * (1 - c / (2 * CELLS)) for e in range(OCTAVES) for c in range(CELLS)]
    return [*inside, 0.5 * 2.0**-OCTAVES]


@lru_cache(maxsize=256)
def _quantiles(d: Distribution) -> tuple[np.ndarray, np.float32]:
    if d.kind == "constant":
        return np.ones((2, HALF), np.int32), np.float32(d.a)
    inverse = _inverse_cdf(d)
    values = np.array([[inverse(1 - q) for q in _tails()], [inverse(q) for q in _tails()]])
    unit = np.float32(np.abs(values).max() / MAX_QUANTILE)
    quantiles = np.rint(values / float(unit)).astype(np.int32) if unit > 0 else np.zeros((2, HALF), np.int32)
    quantiles.setflags(write=False)
    return quantiles, unit


def threefry2x32(k0: np.ndarray, k1: np.ndarray, x0: np.ndarray, x1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """threefry2x32, 20 rounds, as jax.random uses it: key (k0, k1), counter (x0, x1), all uint32."""
    keys = (k0, k1, k0 ^ k1 ^ np.uint32(PARITY))
    with np.errstate(over="ignore"):
        x0, x1 = x0 + keys[0], x1 + keys[1]
        for group in range(5):
            for r in ROTATIONS[group % 2]:
                x0 = x0 + x1
                x1 = ((x1 << np.uint32(r)) | (x1 >> np.uint32(32 - r))) ^ x0
            x0 = x0 + keys[(group + 1) % 3]
            x1 = x1 + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x0, x1


def words(seed: int, uids: np.ndarray, ids: np.ndarray, dim: int, counter: int = 0, first: int = 0) -> np.ndarray:
    """Random words uint32 [N, dim] of columns from `first`, even, on. Columns 2j and 2j+1 are one threefry pair.

    counter 0 gives initial values; counter t >= 1 the rounding noise of step t.
    """
    hi, lo = split_ids(ids)
    key = np.uint32(seed >> 32 & 0xFFFFFFFF), np.uint32(seed & 0xFFFFFFFF)
    k0, k1 = threefry2x32(np.full_like(hi, key[0]), np.full_like(hi, key[1]), hi, lo)
    k0 = k0 ^ np.broadcast_to(np.asarray(uids, np.uint32), hi.shape)
    pair = np.arange(first // 2, first // 2 + (dim + 1) // 2, dtype=np.uint32)
    pair = np.broadcast_to(pair, (len(hi), len(pair)))
    count = np.full_like(pair, counter & 0xFFFFFFFF)
    pairs = threefry2x32(k0[:, None] + 0 * pair, k1[:, None] + 0 * pair, pair, count)
    return np.stack(pairs, -1).reshape(len(hi), dim + dim % 2)[:, :dim]


def look_up(quantiles: np.ndarray, word: np.ndarray) -> np.ndarray:
    """Words uint32 -> int32 quantiles. The sign bit picks the half, 31 bits the tail probability."""
    half = (word >> np.uint32(31)).astype(np.int64)
    tail = np.maximum(word & np.uint32(0x7FFFFFFF), np.uint32(MIN_TAIL)).astype(np.int64)
    octave = 31 - np.frexp(tail.astype(np.float64))[1]
    inside = (1 << 30) - 1 - ((tail << octave) - (1 << 30))
    cell, t = inside >> 24, (inside >> 10) & 0x3FFF
    at = octave * CELLS + cell
    flat = quantiles.reshape(-1).astype(np.int64)
    beg = flat[half * HALF + at]
    d = flat[half * HALF + at + 1] - beg
    # In two parts, so that int32 suffices on a GPU: d may take 27 bits and t takes 14.
    return (beg + (((d >> 10) * t + (((d & 1023) * t) >> 10)) >> 4)).astype(np.int32)


def initial_values(
    d: Distribution, seed: int, uids: np.ndarray, ids: np.ndarray, dim: int, first: int = 0
) -> np.ndarray:
    """float32 [N, dim]: what each (uid, id) begins as, from column `first` on."""
    return look_up(d.quantiles, words(seed, uids, ids, dim, first=first)).astype(np.float32) * d.scale


def rounding_noise(seed: int, uids: np.ndarray, ids: np.ndarray, dim: int, t: int) -> np.ndarray:
    """uint32 [N, dim] below 2**16: added to the fp32 bits before a bfloat16 cut at step t >= 1."""
    return words(seed, uids, ids, dim, counter=t) & np.uint32(0xFFFF)


def wire_noise(seed: int, uids: np.ndarray, ids: np.ndarray, dim: int, t: int) -> np.ndarray:
    """uint32 [N, dim]: the words of a stochastic encode; never those of an initial value or of an optimizer's step."""
    return words(seed, uids, ids, dim, counter=WIRE | t)
