"""Decides which new ids of one table get a row, and counts them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from torch import Tensor

from recis_core.backends import TableSpec
from recis_core.table.admission.admission import Admission, admission_of

if TYPE_CHECKING:
    from recis_core.options.admit_hook import AdmitHook


class Gate:
    """Applies `hook`. If the storage is replaced, the gate is kept.

    policy: the hook's rule and memory. counts: keys admitted and rejected; a key counts once a call.
    """

    def __init__(self, hook: AdmitHook, spec: TableSpec) -> None:
        self.hook, self.spec = hook, spec
        self.policy = self.new_policy()
        self.counts = Counter(admitted=0, rejected=0)

    def new_policy(self) -> Admission:
        """A policy with an empty memory."""
        return admission_of(self.hook, self.spec)

    def go_on_with(self, policy: Admission) -> None:
        self.policy = policy

    @property
    def counts_to(self) -> int | None:
        """The number up to which the policy counts a key's occurrences; None: it counts none."""
        most: int | None = self.hook.params.get("threshold")
        return most

    def admit(self, ids: Tensor, tables: Tensor, counts: Tensor, step: int) -> Tensor:
        """bool [U]: which unique keys without a row get one; each occurs `counts` times. All on the CPU."""
        chosen = self.policy.admit(ids, tables, counts, step)
        self.policy.forget(ids[chosen], tables[chosen])
        self.counts.update(admitted=int(chosen.sum()), rejected=int((~chosen).sum()))
        return chosen

    def stats(self) -> dict[str, int]:
        return {**self.counts, **self.policy.stats()}
