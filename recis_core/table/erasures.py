"""The keys that a table erased after forwards whose backward may still come.

A gradient names rows by number. Until the gradient comes, an erased row's number may have gone to another id; so keys
that were erased after its forward are removed from a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recis_core.table.unapplied import Keys

MOST = 1 << 22  # keys remembered; a forward older than a dropped entry gets no gradient


@dataclass(frozen=True)
class Erasures:
    """count: erasures so far. since: erasures after this number are remembered. entries: (number, keys), ascending."""

    count: int = 0
    since: int = 0
    entries: tuple[tuple[int, Keys], ...] = ()

    def and_then(self, keys: Keys, oldest: int | None) -> Erasures:
        """After these keys are erased. oldest: the count at the oldest forward that waits for a backward, or None."""
        if oldest is None:
            return Erasures(self.count + 1, self.count + 1)
        entries = [*(entry for entry in self.entries if entry[0] > oldest), (self.count + 1, keys)]
        since = max(self.since, oldest)
        while sum(len(keys.ordinals) for _, keys in entries) > MOST:
            since = entries.pop(0)[0]
        return Erasures(self.count + 1, since, tuple(entries))

    def gone(self, count: int, ids: Tensor, ordinals: Tensor) -> Tensor:
        """bool [U], on the CPU: keys that were erased after the first `count` erasures."""
        if count < self.since:
            return torch.ones(len(ids), dtype=torch.bool)
        gone = torch.zeros(len(ids), dtype=torch.bool)
        for number, keys in self.entries:
            if number > count:
                gone |= keys.among(ids, ordinals)
        return gone
