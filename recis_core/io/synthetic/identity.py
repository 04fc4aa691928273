"""Values of a field to 64-bit ids; each map is injective.

Sizes: N values.
"""

from __future__ import annotations

import numpy as np

KINDS = ("mixed", "negative", "low_bits", "high_bits", "extremes")
FIELD_SHIFT = 40  # values of a field stay below 2**40
MASK_63 = (1 << 63) - 1
MULTIPLIERS = (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93)
LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1
CORNERS = (0, -1, LOWEST, HIGHEST, 1, -2, LOWEST + 1, HIGHEST - 1)
WORD_EDGES = (1 << 31, -(1 << 31), (1 << 32) - 1, 1 << 32, (1 << 63) - (1 << 32), (1 << 32) - 2)
FLOAT_EDGES = ((1 << 52) - 1, 1 << 52, (1 << 53) + 1, -(1 << 53) - 1, 1 << 62, -(1 << 62))
EXTREMES = np.array([*CORNERS, *WORD_EDGES, *FLOAT_EDGES], dtype=np.int64)


def _mixed(seed: int, field: int, values: np.ndarray) -> np.ndarray:
    """A bijection of 63 bits: xor-shifts and odd multipliers are invertible, so all (field, value) have distinct ids."""
    x = values.astype(np.uint64) | np.uint64(field << FIELD_SHIFT)
    x = x ^ np.uint64(seed * MULTIPLIERS[1] & MASK_63)
    for multiplier in MULTIPLIERS:
        x = (x ^ (x >> np.uint64(32))) * np.uint64(multiplier) & np.uint64(MASK_63)
    return (x ^ (x >> np.uint64(32))).view(np.int64)


def identify(kind: str, seed: int, field: int, values: np.ndarray) -> np.ndarray:
    """int64 ids of values [any shape] of field number `field`.

    mixed: 63 random-looking bits, distinct over all fields. negative: the same with the sign bit set.
    low_bits: all ids have equal low 32 bits. high_bits: equal high 32 bits, and ids are consecutive.
    extremes: the corners of int64.
    """
    if kind == "extremes":
        return EXTREMES[values]
    if kind == "low_bits":
        return (values << 32) | 0x5EED
    if kind == "high_bits":
        return values + (0x5EED << 32)
    mixed = _mixed(seed, field, values)
    return mixed | LOWEST if kind == "negative" else mixed
