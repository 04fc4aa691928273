"""float32 to fewer bits by integers, to nearest even or by noise, the same on every device.

Sizes: U rows, D dim.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.backends.row_codes import LEAST_NORMAL, SmallFloat
from recis_core.backends.torch_backend.hashing import MASK


def bits_of(x: Tensor) -> Tensor:
    """float32 -> int64 in [0, 2**32)."""
    return x.view(torch.int32).long() & MASK


def flushed(x: Tensor) -> Tensor:
    """Subnormals as zeros of their sign."""
    return torch.where(x.abs() < LEAST_NORMAL, torch.copysign(torch.zeros_like(x), x), x)


def to_bfloat16(x: Tensor, word: Tensor | None) -> Tensor:
    """Codes int64 of finite x that does not overflow."""
    bits = bits_of(x)
    up = 0x7FFF + ((bits >> 16) & 1) if word is None else word >> 16
    return (bits + up) >> 16


def to_small_float(x: Tensor, word: Tensor | None, form: SmallFloat) -> Tensor:
    """Codes int64 of finite x; what is past the largest becomes the largest."""
    bits = bits_of(x)
    field = (bits >> 23) & 255
    exponent = field - 127
    mantissa = torch.where(field > 0, (bits & 0x7FFFFF) | 0x800000, 0)
    shift = 23 - form.mantissa + (form.least - exponent).clamp(min=0)
    mantissa, shift = mantissa >> (shift - 31).clamp(0, 31), shift.clamp(max=31)
    up = (1 << (shift - 1)) - 1 + ((mantissa >> shift) & 1) if word is None else word >> (32 - shift)
    # A normal number's leading bit adds one to the exponent above the least.
    code = ((mantissa + up) >> shift) + ((exponent - form.least).clamp(min=0) << form.mantissa)
    sign = (bits >> 31) << (15 if form.mantissa == 10 else 7)
    return code.clamp(max=form.top) | sign
