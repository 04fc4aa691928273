"""Who of the ids that have no row gets one: what an AdmitHook decides, key by key, on the CPU.

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

SEED = 0x61646D69_74746564  # so that chances are no row's rounding noise on the wire


class Admission(Protocol):
    """One physical table's policy, with what it remembers of ids without a row."""

    def admit(self, ids: Tensor, ordinals: Tensor, counts: Tensor, step: int) -> Tensor:
        """bool [U]: who of unique keys, each of which occurs `counts` times, gets a row now."""
        ...

    def forget(self, ids: Tensor, ordinals: Tensor) -> None:
        """Unique keys that got a row."""
        ...

    def clear(self, ordinals: Tensor) -> None:
        """All keys of these logical tables."""
        ...

    def stats(self) -> dict[str, int]: ...

    def state(self) -> dict[str, Any]:
        """Tensors and numbers, for saved states."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state of this table on this rank."""
        ...

    def merge(self, state: dict[str, Any], ordinals: dict[int, int], keeps: Callable[[Tensor, int], Tensor]) -> None:
        """Take over what another table, or another rank, remembers of keys that belong here.

        ordinals: their logical tables' ordinals to ours. keeps(ids, ordinal of ours): bool, which belong here.
        """
        ...


def admission_of(hook: AdmitHook, spec: TableSpec) -> Admission:
    """The policy of a hook that is not read-only."""
    if hook.name == "Frequency":
        return Frequency(spec.uids, **hook.params)
    return Probability(spec, **hook.params)


class Frequency:
    """At the occurrence number `threshold`. Counts go only so far, so that a rank may send them cut at it."""

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
    """With chance p, drawn once a step: threefry words of (seed, uid, id, step), below p · 2³²."""

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
        """There is nothing to go on from."""

    def merge(self, state: dict[str, Any], ordinals: dict[int, int], keeps: Callable[[Tensor, int], Tensor]) -> None:
        """There is nothing to take over."""
