"""HyperLogLog: how many distinct values, in 16 KiB.

Sizes: N values, M registers.
"""

from __future__ import annotations

import math

import numpy as np

BITS = 14  # M = 2**14 registers
REST = 64 - BITS
ERROR = 1.04 / math.sqrt(1 << BITS)  # standard error, 0.8 %


class HyperLogLog:
    """The register of a hash's first bits holds the longest run of zeros that its other bits began with, plus one.

    Ertl's estimator: New cardinality estimation algorithms for HyperLogLog sketches, arXiv:1702.01284, algorithm 6.
    """

    def __init__(self) -> None:
        self.registers = np.zeros(1 << BITS, np.uint8)

    def add(self, hashes: np.ndarray) -> None:
        """hashes: uint64 [N], each bit as good as random."""
        rest = hashes & np.uint64((1 << REST) - 1)
        length = np.frexp(rest.astype(np.float64))[1]  # bits of the number; 50 bits are exact in a float
        ranks = (REST + 1 - length).astype(np.uint8)
        np.maximum.at(self.registers, (hashes >> np.uint64(REST)).astype(np.int64), ranks)

    def merge(self, other: HyperLogLog) -> None:
        """As if the other's values had been added here."""
        np.maximum(self.registers, other.registers, out=self.registers)

    def estimate(self) -> float:
        """Distinct values; the standard error is ERROR of it, and less for few."""
        m = float(1 << BITS)
        counts = np.bincount(self.registers, minlength=REST + 2)
        z = m * _tau(1 - counts[REST + 1] / m)
        for rank in range(REST, 0, -1):
            z = 0.5 * (z + counts[rank])
        z += m * _sigma(counts[0] / m)
        return float(m * m / (2 * math.log(2) * z))


def _sigma(x: float) -> float:
    if x == 1:
        return math.inf
    y, z, before = 1.0, x, -1.0
    while z != before:
        x, before = x * x, z
        z, y = z + x * y, 2 * y
    return z


def _tau(x: float) -> float:
    if x in (0, 1):
        return 0.0
    y, z, before = 1.0, 1 - x, -1.0
    while z != before:
        x, before, y = math.sqrt(x), z, y / 2
        z -= (1 - x) ** 2 * y
    return z / 3


def mixed(numbers: np.ndarray) -> np.ndarray:
    """uint64 [N] hashes of 64-bit numbers: the finaliser of SplitMix64 (Steele et al. 2014), one to one."""
    x = numbers.view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
