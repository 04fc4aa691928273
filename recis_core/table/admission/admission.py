"""Admission policies: which ids without a row get one, key by key, on the CPU.

Sizes: U unique keys without a row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from recis_core.backends import TableSpec
from recis_core.backends.initial_values import wire_noise
from recis_core.table.admission.bloom_counter import BloomCounter
from recis_core.table.admission.exact_counter import SLOT, ExactCounter

if TYPE_CHECKING:
    from recis_core.options.admit_hook import AdmitHook

SEED = 0x61646D69_74746564  # separates these draws from the rounding noise of rows on the wire


class Admission(Protocol):
    """One physical table's policy, and its memory of ids without a row."""

    def admit(self, ids: Tensor, ordinals: Tensor, counts: Tensor, step: int) -> Tensor:
        """bool [U]: which unique keys get a row now; each occurs `counts` times."""
        ...

    def forget(self, ids: Tensor, ordinals: Tensor) -> None:
        """Drop the memory of unique keys that got a row."""
        ...

    def clear(self, ordinals: Tensor) -> None:
        """Drop the memory of all keys of these logical tables."""
        ...

    def stats(self) -> dict[str, int]: ...

    def state(self) -> dict[str, Any]:
        """Tensors and numbers, for saved states."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over a state of this table on this rank."""
        ...

    def merge(self, state: dict[str, Any], ordinals: dict[int, int], keeps: Callable[[Tensor, int], Tensor]) -> None:
        """Take over another table's or rank's memory of keys that belong on this rank.

        ordinals: the other's ordinals of logical tables to ours. keeps(ids, our ordinal): bool, which belong here.
        """
        ...


def admission_of(hook: AdmitHook, spec: TableSpec) -> Admission:
    """The policy of a hook that is not read-only."""
    if hook.name == "Frequency":
        return Frequency(spec.uids, **hook.params)
    return Probability(spec, **hook.params)


class Frequency:
    """Admits an id at occurrence number `threshold`. Counts stop there, so ranks may clamp counts that they send."""

    def __init__(
        self, uids: tuple[int, ...], *, threshold: int, counter: str, capacity: int, bytes: int, halve_every: int
    ) -> None:
        self.threshold = threshold
        self.counter: ExactCounter | BloomCounter = (
            ExactCounter(uids, capacity) if counter == "exact" else BloomCounter(uids, bytes, threshold, halve_every)
        )

    def admit(self, ids: Tensor, ordinals: Tensor, counts: Tensor, step: int) -> Tensor:
        if isinstance(self.counter, BloomCounter):
            self.counter.age(step)
        return self.counter.add(ids, ordinals, counts.clamp(max=self.threshold)) >= self.threshold

    def forget(self, ids: Tensor, ordinals: Tensor) -> None:
        self.counter.forget(ids, ordinals)

    def clear(self, ordinals: Tensor) -> None:
        self.counter.clear(ordinals)

    def stats(self) -> dict[str, int]:
        return {"counter_overflow": self.counter.overflow}

    def state(self) -> dict[str, Any]:
        return self.counter.state()

    def load_state(self, state: dict[str, Any]) -> None:
        if state.get("kind") == self.state()["kind"]:
            self.counter.load_state(state)

    def merge(self, state: dict[str, Any], ordinals: dict[int, int], keeps: Callable[[Tensor, int], Tensor]) -> None:
        if isinstance(self.counter, BloomCounter):
            if state.get("kind") == "bloom":
                self.counter.merge(state)
            return
        if state.get("kind") != "exact":
            return
        kept = state["keys"]
        for theirs, mine in ordinals.items():
            at = (kept["tables"] == theirs).nonzero().flatten()
            at = at[keeps(kept["ids"][at], mine)]
            where = torch.full((len(at),), mine, dtype=torch.int32)
            self.counter.take(kept["ids"][at], where, kept["slots"][SLOT][at, 0].int())


class Probability:
    """Admits an id with chance p, drawn once a step: the threefry word of (seed, uid, id, step) is below p · 2³²."""

    def __init__(self, spec: TableSpec, *, p: float) -> None:
        self.seed, self.uids = spec.seed ^ SEED, np.array(spec.uids, np.uint32)
        self.below = round(p * 2**32)

    def admit(self, ids: Tensor, ordinals: Tensor, counts: Tensor, step: int) -> Tensor:
        words = wire_noise(self.seed, self.uids[ordinals.numpy()], ids.numpy(), 1, step)[:, 0]
        return torch.from_numpy(words.astype(np.int64) < self.below)

    def forget(self, ids: Tensor, ordinals: Tensor) -> None:
        """There is nothing to forget."""

    def clear(self, ordinals: Tensor) -> None:
        """There is nothing to forget."""

    def stats(self) -> dict[str, int]:
        return {}

    def state(self) -> dict[str, Any]:
        return {"kind": "none"}

    def load_state(self, state: dict[str, Any]) -> None:
        """Has no state."""

    def merge(self, state: dict[str, Any], ordinals: dict[int, int], keeps: Callable[[Tensor, int], Tensor]) -> None:
        """Has no state."""
