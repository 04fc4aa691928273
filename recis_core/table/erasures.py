"""Which keys a table has erased since forwards whose backward may still come.

A gradient names rows by number. A row that was erased may belong to another id by the time its gradient comes, so a
gradient goes without the keys that were erased after its forward.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recis_core.table.unapplied import Keys

MOST = 1 << 22  # keys remembered; a forward that is older than what was dropped of them gets no gradient


@dataclass(frozen=True)
class Erasures:
    """count: how often keys were erased. since: remembered from this one on. entries: (number, keys), ascending."""

    count: int = 0
    since: int = 0
    entries: tuple[tuple[int, Keys], ...] = ()

    def and_then(self, keys: Keys, oldest: int | None) -> Erasures:
        """With these keys erased. oldest: the count at the oldest forward that waits; None where none does."""
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
