"""Ids of tables that share storage in RecIS: the lower 52 bits, with the table's number in the upper 12."""

from __future__ import annotations

from torch import Tensor

BITS = 52
MASK = (1 << BITS) - 1


def masked(ids: Tensor) -> Tensor:
    """The lower 52 bits, which is all that RecIS's engine keeps of an id."""
    return ids & MASK


def encoded(ids: Tensor, table: int) -> Tensor:
    """ids int64 with the table's number, 0 to 4095, in the upper 12 bits."""
    upper = table << BITS
    return masked(ids) | (upper if upper < 1 << 63 else upper - (1 << 64))


def decoded(ids: Tensor) -> tuple[Tensor, Tensor]:
    """(ids, tables), the reverse of `encoded`."""
    return masked(ids), (ids >> BITS) & 0xFFF
