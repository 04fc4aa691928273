"""Gradients that wait for a table's next optimizer step; a gradient is dropped when its row is erased.

Sizes: n keys, U unique keys of a gradient, D dim.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recis_core.table.storage import Storage


@dataclass(frozen=True)
class Carried:
    """Unapplied gradients of a saved state, by unique key: means over ranks. On the CPU."""

    ids: Tensor  # int64 [n]
    ordinals: Tensor  # int32 [n]
    values: Tensor  # float32 [n, D]


def summed_by_key(parts: Sequence[Carried]) -> Carried:
    """One for all, ascending by (ordinal, id); values of a key are added in the order of parts, each with it once."""
    keys = torch.cat([torch.stack([part.ordinals.long(), part.ids], 1) for part in parts])
    unique, places = torch.unique(keys, dim=0, return_inverse=True)
    values = torch.zeros(len(unique), parts[0].values.shape[1])
    for part, where in zip(parts, places.split([len(part.ids) for part in parts]), strict=True):
        values[where] += part.values
    return Carried(unique[:, 1].contiguous(), unique[:, 0].int(), values)


@dataclass(frozen=True)
class Measure:
    """A synced gradient's measure, before any factor."""

    sum_of_squares: float
    finite: bool


@dataclass(frozen=True)
class Keys:
    """Unique keys on the CPU. ids None: all keys of the logical tables `ordinals`."""

    ids: Tensor | None  # int64 [n]
    ordinals: Tensor  # int32 [n]

    def among(self, ids: Tensor, ordinals: Tensor) -> Tensor:
        """bool [U], on the CPU: which keys are among these."""
        ids, ordinals = ids.cpu(), ordinals.cpu()
        found = torch.zeros(len(ids), dtype=torch.bool)
        for ordinal in self.ordinals.unique():
            at = (ordinals == ordinal).nonzero().flatten()
            mine = None if self.ids is None else self.ids[self.ordinals == ordinal]
            found[at] = True if mine is None else torch.from_numpy(np.isin(ids[at].numpy(), mine.numpy()))
        return found


def all_of(ordinals: Iterable[int]) -> Keys:
    return Keys(None, torch.tensor(sorted(ordinals), dtype=torch.int32))


class Unapplied(NamedTuple):
    """gradients: one for each backward, in order. combined: all of them, synced. oldest: step of the oldest forward."""

    gradients: tuple[Any, ...] = ()
    combined: Any = None
    measure: Measure | None = None
    oldest: int | None = None
    carried: Carried | None = None

    def with_gradient(self, gradient: Any, step: int) -> Unapplied:
        oldest = step if self.oldest is None else min(self.oldest, step)
        return Unapplied((*self.gradients, gradient), None, None, oldest, self.carried)

    def without(self, storage: Storage, keys: Keys) -> Unapplied:
        """The gradients of all other keys."""
        if not self.gradients and self.carried is None:
            return self
        left = tuple(without(storage, gradient, keys) for gradient in self.gradients)
        return Unapplied(left, None, None, self.oldest, _carried_without(self.carried, keys))

    def none(self) -> Unapplied:
        """Without the gradients; those that a saved state carried stay."""
        return Unapplied(carried=self.carried)


def without(storage: Storage, gradient: Any, keys: Keys) -> Any:
    gone = keys.among(*storage.read_gradient(gradient)[:2])
    return storage.without(gradient, gone) if bool(gone.any()) else gradient


def _carried_without(carried: Carried | None, keys: Keys) -> Carried | None:
    if carried is None:
        return None
    stay = ~keys.among(carried.ids, carried.ordinals)
    return Carried(carried.ids[stay], carried.ordinals[stay], carried.values[stay]) if bool(stay.any()) else None
