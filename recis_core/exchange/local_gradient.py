"""Gradients on the rank that computed them, by unique key, until the optimizer step.

Sizes: U unique keys, D dim.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from recis_core.backends.interface import Backend
from recis_core.exchange.keys import SortedKeys, runs_of_equal, sort_keys
from recis_core.exchange.owners import Owners


@dataclass(frozen=True)
class LocalGradient:
    """values float32 [U, D] of keys; `call` is the number of the forward that asked for them, None for several."""

    keys: SortedKeys
    values: Tensor
    call: int | None

    @property
    def finite(self) -> bool:
        return bool(self.values.isfinite().all())

    def by_id(self, owners: Owners) -> LocalGradient:
        """For an owner that does not know which keys were asked for: hot keys are sorted among the others."""
        if self.call is None:
            return self
        k = self.keys
        keys, order = sort_keys(k.ids, k.ordinals, k.counts, k.slices, owners)
        return LocalGradient(keys, self.values[order], None)

    def without(self, gone: Tensor, owners: Owners) -> LocalGradient:
        """Without erased keys, bool [U]. Owners count the keys that were asked for, so the rest goes by id."""
        at, k = ~gone.to(self.values.device), self.keys
        keys, order = sort_keys(k.ids[at], k.ordinals[at], k.counts[at], k.slices[at], owners)
        return LocalGradient(keys, self.values[at][order], None)


def joined(gradients: list[LocalGradient], backend: Backend, owners: Owners) -> LocalGradient:
    """Sum by key, in the order given: one for all."""
    if len({g.call for g in gradients}) == 1 and gradients[0].call is not None:
        return gradients[0] if len(gradients) == 1 else _added(gradients)
    ids, ordinals, counts, slices = (
        torch.cat([getattr(g.keys, name) for g in gradients]) for name in ("ids", "ordinals", "counts", "slices")
    )
    repeated, order = sort_keys(ids, ordinals, counts, slices, owners)
    bounds = runs_of_equal(repeated.ids, repeated.ordinals)
    values = backend.pool(torch.cat([g.values for g in gradients]), order.int(), bounds)
    first, summed = bounds[:-1], _sums(repeated.counts, bounds)
    keys, _ = sort_keys(repeated.ids[first], repeated.ordinals[first], summed, repeated.slices[first], owners)
    return LocalGradient(keys, values, None)


def _added(gradients: list[LocalGradient]) -> LocalGradient:
    """Several backwards of one forward."""
    first, values = gradients[0], gradients[0].values
    for other in gradients[1:]:
        values = values + other.values
    keys = replace(first.keys, counts=first.keys.counts * len(gradients))
    return LocalGradient(keys, values, first.call)


def _sums(counts: Tensor, bounds: Tensor) -> Tensor:
    total = F.pad(counts.long().cumsum(0), (1, 0))
    return (total[bounds[1:]] - total[bounds[:-1]]).int()
