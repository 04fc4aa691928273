"""Constants of the row codecs, for all backends; Backend.encode has the formulas.

Sizes: D dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recis_core.backends.spec import BF16_MAX, FLOAT32_MAX, FP16_MAX

LEAST_NORMAL = 2.0**-126  # float32's; what is below counts as zero
LEAST_TOP = 2.0**-63  # a row whose largest |x| is below is zeros
LEAST_ADDEND = 2.0**-100  # a smaller |x| adds nothing to a mean, a smaller ratio rounds as 0
MAX_MEAN = 2.0**126  # the largest scale of signs, so that x − decoded(x) never overflows
LARGEST = {"fp8": 448.0, "int8": 127.0, "int4": 7.0}
CLAMPS = {"bf16": BF16_MAX, "lossless": BF16_MAX, "fp16": FP16_MAX}
ESCAPE = 7  # of a lossless row's exponent differences


@dataclass(frozen=True)
class SmallFloat:
    """A float of few bits: `mantissa` explicit bits, least normal exponent, largest code."""

    mantissa: int
    least: int
    top: int


FP16 = SmallFloat(10, -14, 0x7BFF)
FP8 = SmallFloat(3, -6, 0x7E)


def inverse(largest: float) -> float:
    """float32(1/largest): a scale is one product, for XLA may divide by multiplying, a last bit aside."""
    return float(np.float32(1 / largest))


def scale_cap(largest: float) -> float:
    """The largest float32 whose product with the largest code does not overflow."""
    return float(np.nextafter(np.float32(FLOAT32_MAX / largest), np.float32(0)))


def mean_factors(dim: int) -> tuple[float, float]:
    """(2^−k, float32(2^k/D)) for the least 2^k ≥ D: the mean of D columns without overflow."""
    size = 1 << (dim - 1).bit_length()
    return 1.0 / size, float(np.float32(size / dim))
