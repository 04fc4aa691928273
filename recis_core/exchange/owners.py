"""Which rank has a key.

Sizes: U keys, W ranks, T logical tables.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from recis_core.backends import placement
from recis_core.backends.placement import SLICE_BITS
from recis_core.options.sharding import Sharding

SLICES = 1 << SLICE_BITS


class Owners:
    """Of the logical tables of one storage: a rank for each slice of the hash, or one rank for all of a table.

    everywhere: keys have no owner, for every rank has all of them: whole rows, or some columns of each.
    """

    def __init__(self, shardings: Sequence[Sharding], uids: Sequence[int], world: int) -> None:
        self.world, self.tables = world, len(shardings)
        self.everywhere = shardings[0].kind in ("column", "replicated")
        self._uids = np.array(uids, np.uint32)
        self._fixed = torch.tensor([-1 if s.owner is None else s.owner for s in shardings])
        self._all_by_slice = bool((self._fixed < 0).all())
        for sharding in shardings:
            sharding.check_world(world)

    def of(self, ordinals: Tensor, slices: Tensor) -> Tensor:
        """int64 [U]: ranks of keys."""
        by_slice = slices.long() * self.world >> SLICE_BITS
        if self._all_by_slice:
            return by_slice
        fixed = self._fixed.to(ordinals.device)[ordinals.long()]
        return torch.where(fixed >= 0, fixed, by_slice)

    def of_ids(self, ids: Tensor, ordinals: Tensor) -> Tensor:
        """The same of keys whose slices are not known; int64 [n], on the CPU."""
        ids, ordinals = ids.cpu(), ordinals.cpu()
        slices = placement.slices(ids.numpy(), self._uids[ordinals.numpy()]).astype(np.int32)
        return self.of(ordinals, torch.from_numpy(slices))

    def slices_of(self, ordinal: int, rank: int) -> tuple[int, int] | None:
        """The run of slices [beg, end) of a table that a rank owns; None if it owns none."""
        fixed = int(self._fixed[ordinal])
        if fixed >= 0:
            return (0, SLICES) if fixed == rank else None
        return slice_range(rank, self.world)


def slice_range(rank: int, world: int) -> tuple[int, int]:
    """The slices s with ⌊s · world / 2¹⁶⌋ = rank: contiguous, and only their bounds depend on the world."""
    return -(-rank * SLICES // world), -(-(rank + 1) * SLICES // world)
