"""float32 bits to fewer bits by integers, to nearest even or by noise.

Sizes: D dim.
"""

from __future__ import annotations

import numpy as np

from recis_core.backends.numba_backend.compiled import inlined
from recis_core.backends.numba_backend.initial_values import EXPONENT, FRACTION

SIGN, SIZE, HIDDEN, HALF = np.uint32(0x80000000), np.uint32(0x7FFFFFFF), np.uint32(0x00800000), np.uint32(0x7FFF)
ONE, SIXTEEN, BYTE = np.uint32(1), np.uint32(16), np.uint32(255)


@inlined
def flushed(bits):  # type: ignore[no-untyped-def]
    """Subnormals as zeros of their sign."""
    return bits if bits & EXPONENT else np.uint32(bits & SIGN)


@inlined
def clamped(bits, bound):  # type: ignore[no-untyped-def]
    """Of finite numbers; bound: the bits of the largest."""
    return np.uint32(min(bits & SIZE, bound) | (bits & SIGN))


@inlined
def to_bfloat16(bits, word, noisy):  # type: ignore[no-untyped-def]
    """uint32 codes."""
    up = np.uint32(word >> SIXTEEN) if noisy else np.uint32(HALF + ((bits >> SIXTEEN) & ONE))
    return np.uint32(np.uint32(bits + up) >> SIXTEEN)


@inlined
def to_small_float(bits, word, noisy, mantissa, least, top):  # type: ignore[no-untyped-def]
    """uint32 codes without the sign; what is past the largest becomes the largest."""
    field = np.int32((bits >> np.uint32(23)) & BYTE)
    above = np.int32(field - 127 - least)
    number = np.uint32((bits & FRACTION) | HIDDEN) if field > 0 else np.uint32(0)
    shift = np.int32(23 - mantissa + max(-above, 0))
    number = np.uint32(number >> np.uint32(min(max(shift - 31, 0), 31)))
    places = np.uint32(min(shift, 31))
    nearest = np.uint32(np.uint32(ONE << np.uint32(places - ONE)) - ONE + ((number >> places) & ONE))
    up = np.uint32(word >> np.uint32(np.uint32(32) - places)) if noisy else nearest
    # A normal number's leading bit adds one to the exponent above the least.
    code = np.uint32(np.uint32(number + up) >> places) + np.uint32(np.uint32(max(above, 0)) << np.uint32(mantissa))
    return np.uint32(min(np.uint32(code), top))
