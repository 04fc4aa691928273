"""How often ids come: exact counts, and an estimate in fixed memory.

Sizes: K distinct ids so far, n ids asked for, S buckets, M hashes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from recis_core.hashing import murmur_pairs

State = dict[str, Any]


class Frequency(Protocol):
    """What NegativeSampler asks of a frequency. Ids and answers are on the CPU."""

    def update(self, ids: Tensor) -> None:
        """Count int64 [n], the ids of one batch."""

    def share(self, ids: Tensor) -> Tensor:
        """float64 [n]: the part of all ids so far that are this one, above 0."""

    def state_dict(self) -> State: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class ExactFrequency:
    """Counts each distinct id: 16 bytes an id on every rank, and a sort of new ones. An id not seen so far counts as one."""

    def __init__(self) -> None:
        self.ids, self.counts = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
        self.total = 0

    def update(self, ids: Tensor) -> None:
        """Count int64 [n], the ids of one batch."""
        new, counts = ids.flatten().unique(return_counts=True)
        merged, place = torch.cat([self.ids, new]).unique(return_inverse=True)
        self.counts = torch.zeros_like(merged).index_add_(0, place, torch.cat([self.counts, counts]))
        self.ids, self.total = merged, self.total + ids.numel()

    def share(self, ids: Tensor) -> Tensor:
        """float64 [n]: an id's count over that of all."""
        if not len(self.ids):
            return torch.ones(len(ids), dtype=torch.float64)
        at = torch.searchsorted(self.ids, ids).clamp(max=len(self.ids) - 1)
        counts = self.counts[at].where(self.ids[at] == ids, 1)
        return counts.double() / self.total

    def state_dict(self) -> State:
        return {"ids": self.ids.clone(), "counts": self.counts.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError if the state is none of an ExactFrequency."""
        _check_keys(self, state, {"ids", "counts"})
        self.ids, self.counts = state["ids"].clone(), state["counts"].clone()
        self.total = int(self.counts.sum())


class StreamingFrequency:
    """Estimates frequencies in fixed memory, and follows them as they change.

    Of each bucket the mean number of batches between two that have one of its ids, δ ← (1 − rate)·δ + rate·(t − last); an id
    comes in 1/δ of the batches. That over the mean number of distinct ids of a batch is its share. Buckets are shared by ids
    that collide, which come too often then; so an id has one bucket of each of M arrays, and the largest δ counts.

    Args:
      buckets: S of an array; 12·S·M bytes. rate: of the moving mean: 1/rate occurrences are remembered. hashes: M.

    Raises:
      ValueError: an argument is out of range.

    Yi et al. 2019, doi:10.1145/3298689.3346996, §4, algorithms 2 and 3. Unlike there, a bucket's first δ is the number of the
    batch, which needs no initial value; and δ is at least the time since the bucket's last id, so that ids that come no more
    become rare.
    """

    def __init__(self, buckets: int = 1 << 20, *, rate: float = 0.02, hashes: int = 2) -> None:
        if buckets < 1 or hashes < 1 or not 0 < rate <= 1:
            raise ValueError(
                f"buckets and hashes must be at least 1, rate in (0, 1]; got {buckets}, {hashes} and {rate}."
            )
        self.rate, self.step, self.ids_seen = rate, 0, 0
        self.last = torch.zeros(hashes, buckets, dtype=torch.int64)
        self.interval = torch.zeros(hashes, buckets, dtype=torch.float32)

    def update(self, ids: Tensor) -> None:
        """Count int64 [n], the ids of one batch."""
        distinct = ids.flatten().unique()
        self.step, self.ids_seen = self.step + 1, self.ids_seen + len(distinct)
        for last, interval, at in zip(self.last, self.interval, self._places(distinct), strict=True):
            at = at.unique()
            gap = (self.step - last[at]).float()
            former = interval[at]
            interval[at] = gap.where(former == 0, (1 - self.rate) * former + self.rate * gap)
            last[at] = self.step

    def share(self, ids: Tensor) -> Tensor:
        """float64 [n]: 1/δ over the mean number of distinct ids in a batch; an id not seen so far counts as seen once."""
        places = enumerate(self._places(ids))
        longest = torch.stack([self._intervals(m, at) for m, at in places]).amax(0).double()
        return 1 / longest / max(self.ids_seen / max(self.step, 1), 1)

    def _intervals(self, m: int, at: Tensor) -> Tensor:
        """float32 [n]: δ of buckets of array m, or the time since the last of their ids, if that is longer."""
        waited = (self.step - self.last[m, at]).float()
        return torch.maximum(self.interval[m, at], waited).where(self.last[m, at] > 0, self.step + 1.0)

    def _places(self, ids: Tensor) -> list[Tensor]:
        """Int64 [n] of each array: an id's bucket."""
        hashes = [murmur_pairs(ids, torch.full_like(ids, m)) for m in range(len(self.last))]
        return [hashed % self.last.shape[1] for hashed in hashes]

    def state_dict(self) -> State:
        counted = {"step": self.step, "ids_seen": self.ids_seen, "rate": self.rate}
        return {"last": self.last.clone(), "interval": self.interval.clone(), **counted}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError if the state is none of a StreamingFrequency of as many buckets and hashes, and of this rate."""
        _check_keys(self, state, {"last", "interval", "step", "ids_seen", "rate"})
        mine, theirs = (*self.last.shape, self.rate), (*state["last"].shape, state["rate"])
        if mine != theirs:
            raise ValueError(f"the state must be of hashes, buckets and rate {mine}; got {theirs}.")
        self.last, self.interval = state["last"].clone(), state["interval"].clone()
        self.step, self.ids_seen = int(state["step"]), int(state["ids_seen"])


def _check_keys(frequency: object, state: Mapping[str, Any], keys: set[str]) -> None:
    if set(state) != keys:
        raise ValueError(
            f"the state of {type(frequency).__name__} must have {sorted(keys)}; got {sorted(map(str, state))}."
        )
