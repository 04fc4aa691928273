"""Unsigned 64-bit arithmetic on int64 tensors: sums and products wrap by themselves, these do not."""

from __future__ import annotations

from torch import Tensor

BITS = 64


def signed(word: int) -> int:
    """The int64 of the same 64 bits."""
    return word - (1 << BITS) if word >> (BITS - 1) else word


def shifted(x: Tensor, by: int) -> Tensor:
    """x >> by with zeros from the left; by at least 1."""
    return (x >> by) & ((1 << (BITS - by)) - 1)


def rotated(x: Tensor, by: int) -> Tensor:
    """The bits moved right by `by`, those that fall out coming in from the left; by from 1 to 63."""
    return shifted(x, by) | (x << (BITS - by))


def unsigned_mod(x: Tensor, by: Tensor | int) -> Tensor:
    """x, taken as unsigned, modulo `by`, from 1 to 2**63 - 1.

    A negative x stands for x + 2**64: its floored remainder and that of 2**64 are added, less `by` so that nothing overflows.
    Signs are masks: to choose by torch.where takes twice as long.
    """
    low = x % by
    if isinstance(by, int):
        wrapped: Tensor | int = by - (1 << BITS) % by
    else:
        half = ((1 << (BITS - 1)) - 1) % by  # of 2**63 - 1, twice and 2 more
        wrapped = by - _sum_mod(_sum_mod(half, half, by), 2 % by, by)
    found = low - (x >> (BITS - 1) & wrapped)
    return found + (found >> (BITS - 1) & by)


def _sum_mod(x: Tensor, y: Tensor, by: Tensor) -> Tensor:
    """(x + y) % by of numbers below `by`, without overflow."""
    total = x - (by - y)
    return total.where(total >= 0, total + by)
