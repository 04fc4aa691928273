"""Placement of new ids: backends.placement's rounds, vectorised in torch.

Sizes: M new ids of a chunk, W ways.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.backends import placement
from recis_core.backends.torch_backend.hashing import bucket_words
from recis_core.backends.torch_backend.state import Index

NO_VICTIM = 2**40


def candidates(index: Index, ids: Tensor, uids: Tensor) -> Tensor:
    """Both candidate buckets of each key, int64 [M, 2]."""
    a, b = bucket_words(ids, uids)
    return torch.stack([a, b], 1) & (index.buckets - 1)


def way_numbers(buckets: Tensor) -> Tensor:
    """Entries of each bucket's ways: [...] -> [..., W]."""
    return buckets[..., None] * placement.WAYS + torch.arange(placement.WAYS, device=buckets.device)


def place(index: Index, ids: Tensor, uids: Tensor, may_be_new: Tensor, pinned_from: int, evict: bool) -> Tensor:
    """An entry for each new key, int64 [M], or -1: free ways first, then victims.

    Keys are unique, absent and in key order. may_be_new: bool [M], as many first keys as there are free rows.
    """
    buckets = candidates(index, ids, uids)
    entry = torch.full_like(ids, -1)
    order, limit = free_ways(index, buckets)
    run_rounds(index, buckets, order, limit, entry, may_be_new, evicting=False)
    if evict and bool((entry < 0).any()):
        order, limit = victims(index, buckets, pinned_from)
        run_rounds(index, buckets, order, limit, entry, torch.ones_like(may_be_new), evicting=True)
    return entry


def free_ways(index: Index, buckets: Tensor) -> tuple[Tensor, Tensor]:
    """(entries with the free ways first, by number, [M, 2, W]; how many are free [M, 2])."""
    ways = way_numbers(buckets)
    free = index.rows[ways] < 0
    order = torch.argsort((~free).to(torch.uint8), dim=-1, stable=True)
    return ways.gather(-1, order), free.sum(-1)


def victims(index: Index, buckets: Tensor, pinned_from: int) -> tuple[Tensor, Tensor]:
    """(entries with unpinned occupied ways first, by (score, uid, id), [M, 2, W]; how many [M, 2])."""
    ways = way_numbers(buckets)
    for name in ("ids", "uids", "scores"):
        ways = _sorted_by(getattr(index, name)[ways], ways)
    victim = (index.rows[ways] >= 0) & (index.stamps[ways] < pinned_from)
    return _sorted_by((~victim).to(torch.uint8), ways), victim.sum(-1)


def _sorted_by(key: Tensor, ways: Tensor) -> Tensor:
    return ways.gather(-1, torch.argsort(key, dim=-1, stable=True))


def run_rounds(
    index: Index, buckets: Tensor, order: Tensor, limit: Tensor, entry: Tensor, takes_part: Tensor, *, evicting: bool
) -> None:
    """Fill `entry` in place: in each round a bucket takes at most half of what it has left, the last round all."""
    used = torch.zeros(index.buckets, dtype=torch.int64, device=entry.device)
    for r in range(placement.ROUNDS):
        pending = torch.nonzero(takes_part & (entry < 0)).squeeze(1)
        if len(pending) == 0:
            return
        taken = used[buckets[pending]]
        left = (limit[pending] - taken).clamp(min=0)
        side = _preferred(index, order[pending], taken, left, evicting)
        pick = torch.arange(len(pending), device=entry.device), side
        bucket, room = buckets[pending][pick], left[pick]
        quota = room if r == placement.ROUNDS - 1 else (room + 1) // 2
        rank = rank_within(bucket)
        ok = rank < quota
        way = (taken[pick] + rank).clamp(max=placement.WAYS - 1)
        entry[pending[ok]] = order[pending, side, way][ok]
        used += torch.bincount(bucket[ok], minlength=index.buckets)


def _preferred(index: Index, order: Tensor, taken: Tensor, left: Tensor, evicting: bool) -> Tensor:
    """0 for bucket a, 1 for b; ties go to a."""
    if not evicting:
        return (left[:, 0] < left[:, 1]).long()
    following = order.gather(-1, taken.clamp(max=placement.WAYS - 1)[..., None])[..., 0]
    score = torch.where(left > 0, index.scores[following].long(), NO_VICTIM)
    return (score[:, 0] > score[:, 1]).long()


def rank_within(bucket: Tensor) -> Tensor:
    """Position of each element among those of equal value, in order."""
    by_bucket = torch.argsort(bucket, stable=True)
    ordered = bucket[by_bucket]
    position = torch.arange(len(bucket), device=bucket.device)
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    start = torch.where(first, position, 0).cummax(0).values
    return torch.empty_like(position).scatter_(0, by_bucket, position - start)


def key_order(ids: Tensor, uids: Tensor) -> Tensor:
    """The permutation that sorts keys by (uid, signed id)."""
    by_id = torch.argsort(ids, stable=True)
    return by_id[torch.argsort(uids[by_id], stable=True)]
