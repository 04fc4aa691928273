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
class Held:
    """values float32 [U, D] of keys; `call` is the number of the forward that asked for them, None for several."""

    keys: SortedKeys
    values: Tensor
    call: int | None

    @property
    def finite(self) -> bool:
        return bool(self.values.isfinite().all())


def joined(held: list[Held], backend: Backend, owners: Owners | None, world: int, tables: int) -> Held:
    """Sum by key, in the order given: one for all."""
    if len({h.call for h in held}) == 1 and held[0].call is not None:
        return held[0] if len(held) == 1 else _added(held)
    ids, ordinals, counts, slices = (
        torch.cat([getattr(h.keys, name) for h in held]) for name in ("ids", "ordinals", "counts", "slices")
    )
    ranks = None if owners is None else owners.of(ordinals, slices)
    repeated, order = sort_keys(ids, ordinals, counts, slices, ranks, world, tables)
    bounds = runs_of_equal(repeated.ids, repeated.ordinals)
    values = backend.pool(torch.cat([h.values for h in held]), order.int(), bounds)
    first = bounds[:-1]
    summed = _sums(repeated.counts, bounds)
    ids, ordinals, slices = (x[first] for x in (repeated.ids, repeated.ordinals, repeated.slices))
    ranks = None if owners is None else owners.of(ordinals, slices)
    keys, _ = sort_keys(ids, ordinals, summed, slices, ranks, world, tables)
    return Held(keys, values, None)


def by_id(held: Held, owners: Owners | None, world: int, tables: int) -> Held:
    """The same where the owner does not know, or not any more, what was asked: hot keys stand among the others."""
    if held.call is None:
        return held
    keys = held.keys
    ranks = None if owners is None else owners.of(keys.ordinals, keys.slices)
    plain, order = sort_keys(keys.ids, keys.ordinals, keys.counts, keys.slices, ranks, world, tables)
    return Held(plain, held.values[order], None)


def without(held: Held, gone: Tensor, owners: Owners | None, world: int, tables: int) -> Held:
    """Without keys that were erased, bool [U]. Owners count the keys that were asked for, so these go by id."""
    at = ~gone.to(held.values.device)
    ids, ordinals, counts, slices = (getattr(held.keys, n)[at] for n in ("ids", "ordinals", "counts", "slices"))
    ranks = None if owners is None else owners.of(ordinals, slices)
    keys, order = sort_keys(ids, ordinals, counts, slices, ranks, world, tables)
    return Held(keys, held.values[at][order], None)


def _added(held: list[Held]) -> Held:
    """Several backwards of one forward."""
    values = held[0].values
    for other in held[1:]:
        values = values + other.values
    counts = held[0].keys.counts * len(held)
    keys = held[0].keys
    keys = replace(keys, counts=counts)
    return Held(keys, values, held[0].call)


def _sums(counts: Tensor, bounds: Tensor) -> Tensor:
    total = F.pad(counts.long().cumsum(0), (1, 0))
    return (total[bounds[1:]] - total[bounds[:-1]]).int()
