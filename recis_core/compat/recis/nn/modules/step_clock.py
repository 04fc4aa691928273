"""RecIS counts steps by calls of HashTableFilterHook; our tables stamp rows with finished optimizer steps."""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.table.table import Table


class StepClock:
    """The RecIS step in which each row was last used, from the stamps of the row's table.

        RecIS's step       7     8     9 …          begins: the table's step at which RecIS's steps `first`, first + 1, …
        the table's step   20    21 22 23 …         began, here [20, 21, 23] from 7 on

    keep: how many begins are remembered. Older rows count as older than all of these, by one step each.
    """

    def __init__(self, keep: int) -> None:
        self.keep = keep + 2
        self.restart(0, 0)

    def restart(self, global_step: int, table_step: int) -> None:
        """RecIS's step is now global_step, and begins with the table's table_step."""
        self.first, self.begins = global_step, [table_step]

    @property
    def now(self) -> int:
        return self.first + len(self.begins) - 1

    def next(self, table: Table) -> None:
        """A RecIS step is over. The table counts one, too, if no optimizer step has: stamps must tell the steps apart."""
        with table.lock:
            if table.step <= self.begins[-1]:
                table.step = self.begins[-1] + 1
            self.begins.append(table.step)
        dropped = max(0, len(self.begins) - self.keep)
        self.first, self.begins = self.first + dropped, self.begins[dropped:]

    def of(self, stamps: Tensor) -> Tensor:
        """RecIS's steps int64 [n] of stamps int32 [n]."""
        begins = torch.tensor(self.begins, dtype=torch.int64)
        stamps = stamps.to("cpu", torch.int64)
        before = self.first - (self.begins[0] - stamps)
        return torch.where(
            stamps < self.begins[0], before, self.first + torch.searchsorted(begins, stamps, right=True) - 1
        )

    def stamps(self, steps: Tensor) -> Tensor:
        """The reverse of `of`, for steps of a checkpoint; int32."""
        at = (steps.to(torch.int64) - self.first).clamp(max=len(self.begins) - 1)
        known = torch.tensor(self.begins, dtype=torch.int64)[at.clamp(min=0)]
        return torch.where(at < 0, self.begins[0] + at, known).clamp(min=0).to(torch.int32)
