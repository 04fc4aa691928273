"""Which rank owns a key.

Sizes: U keys, W ranks, T logical tables.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recis_core.backends.placement import SLICE_BITS
from recis_core.options.sharding import Sharding

SLICES = 1 << SLICE_BITS


class Owners:
    """Of the logical tables of one storage: rows by slice of the hash, or all of a table at one rank."""

    def __init__(self, shardings: Sequence[Sharding], world: int) -> None:
        self.world = world
        self.fixed = torch.tensor([-1 if s.owner is None else s.owner for s in shardings])
        for sharding in shardings:
            sharding.check_world(world)

    def of(self, ordinals: Tensor, slices: Tensor) -> Tensor:
        """int64 [U]: ranks of keys."""
        by_slice = slices.long() * self.world >> SLICE_BITS
        if bool((self.fixed < 0).all()):
            return by_slice
        fixed = self.fixed.to(ordinals.device)[ordinals.long()]
        return torch.where(fixed >= 0, fixed, by_slice)

    def slices_of(self, ordinal: int, rank: int) -> tuple[int, int] | None:
        """The run of slices [beg, end) of a table that a rank owns; None if it owns none."""
        fixed = int(self.fixed[ordinal])
        if fixed >= 0:
            return (0, SLICES) if fixed == rank else None
        return slice_range(rank, self.world)


def slice_range(rank: int, world: int) -> tuple[int, int]:
    """The slices s with ⌊s · world / 2¹⁶⌋ = rank: contiguous, and only their bounds depend on the world."""
    return -(-rank * SLICES // world), -(-(rank + 1) * SLICES // world)
