"""Growth of the index: every key moves by the next bit of the word that placed it, so nothing can overflow."""

from __future__ import annotations

import torch
from torch import Tensor

from recis_core.backends import placement
from recis_core.backends.torch_backend.hashing import bucket_words
from recis_core.backends.torch_backend.place import key_order, place
from recis_core.backends.torch_backend.state import FIELDS, Index, TableState, empty_index
from recis_core.backends.whole import Undo


def grow(state: TableState, undo: Undo, incoming: int) -> None:
    """Before `incoming` ids are looked up: double the buckets as often as placement says."""
    if not state.spec.grows:
        return
    target = placement.grown_buckets(state.index.buckets, state.used, incoming)
    if target > state.index.buckets:
        index = rehashed(state.index, target)
        undo.grown(index)
        state.index = index


def rehashed(index: Index, target: int) -> Index:
    old = torch.nonzero(index.rows[: index.ways] >= 0).squeeze(1)
    entries = index.read(old)
    grown = empty_index(target, index.rows.device)
    grown.write(None, _moved(index, old, entries, target), **entries)
    stash = index.read(torch.arange(index.ways, index.ways + index.stashed, device=index.rows.device))
    _place_stash(grown, stash)
    return grown


def _moved(index: Index, old: Tensor, entries: dict[str, Tensor], target: int) -> Tensor:
    """New entry numbers: the same way of the bucket that the placing word's longer prefix names."""
    a, b = bucket_words(entries["ids"], entries["uids"])
    by_a = (a & (index.buckets - 1)) == old // placement.WAYS
    return (torch.where(by_a, a, b) & (target - 1)) * placement.WAYS + old % placement.WAYS


def _place_stash(index: Index, stash: dict[str, Tensor]) -> None:
    order = key_order(stash["ids"], stash["uids"])
    stash = {name: stash[name][order] for name in FIELDS}
    everyone = torch.ones(len(order), dtype=torch.bool, device=order.device)
    entry = place(index, stash["ids"], stash["uids"], everyone, 0, evict=False)
    waits = entry < 0
    index.stashed = int(waits.sum())
    entry[waits] = index.ways + torch.arange(index.stashed, device=order.device)
    index.write(None, entry, **stash)
