"""Unique keys in the order they travel: by owner; asked keys before those of hot rows, which are at hand; by table; by id.

    rank 0's                            | rank 1's | …        spans: where each rank's begin and end
    asked for           | hot, at hand  |                     asked: how many each rank is asked for,
    table 0 | table 1   | table 0 | …   |                     by_table: of each logical table
    ids ascend          |

Sizes: N ids, U unique keys, W ranks, T logical tables.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from recis_core.backends.records import Partition
from recis_core.exchange.owners import Owners

Span = tuple[int, int]


@dataclass(frozen=True)
class SortedKeys:
    """ids int64, ordinals, counts (occurrences) and slices int32 [U]; by_table int64 [W, T] and asked, on the CPU.

    hot: int64 [U], a key's place among the hot rows, or -1; None where no row is hot.
    """

    ids: Tensor
    ordinals: Tensor
    counts: Tensor
    slices: Tensor
    spans: tuple[Span, ...]
    by_table: Tensor
    hot: Tensor | None = None

    @property
    def asked(self) -> list[int]:
        return self.by_table.sum(1).tolist()


def sort_keys(
    ids: Tensor, ordinals: Tensor, counts: Tensor, slices: Tensor, owners: Owners, hot: Tensor | None = None
) -> tuple[SortedKeys, Tensor]:
    """Keys by owner, or the same for every rank where keys have none; and the order they were in, int64 [U]."""
    tables, ranks = owners.tables, None if owners.everywhere else owners.of(ordinals, slices)
    group = ordinals.long() if ranks is None else ranks * tables + ordinals
    if hot is not None and ranks is not None:
        group = group + (ranks + (hot >= 0)) * tables  # twice as many groups an owner, its hot ones behind
    order = torch.sort(ids)[1]
    order = order[torch.sort(group[order], stable=True)[1]]
    kinds = 1 if hot is None else 2
    sizes = torch.bincount(group, minlength=kinds * tables * (1 if ranks is None else owners.world)).cpu()
    sizes = sizes.reshape(-1, kinds, tables)
    spans = ((0, len(ids)),) * owners.world if ranks is None else _spans(sizes.sum((1, 2)).tolist())
    at_hand = None if hot is None else hot[order]
    by_table = sizes[:, 0].expand(owners.world, tables)
    return SortedKeys(ids[order], ordinals[order], counts[order], slices[order], spans, by_table, at_hand), order


def _spans(lengths: list[int]) -> tuple[Span, ...]:
    ends = [0]
    for length in lengths:
        ends.append(ends[-1] + length)
    return tuple(itertools.pairwise(ends))


def sort_partition(p: Partition, owners: Owners, hot: Tensor | None) -> tuple[SortedKeys, Tensor]:
    """The keys of a call, and its inverse in their order, int32 [N]."""
    keys, order = sort_keys(p.ids, p.tables, p.counts, p.slices, owners, hot)
    place = torch.empty_like(order, dtype=torch.int32)
    place[order] = torch.arange(len(order), dtype=torch.int32, device=order.device)
    return keys, place[p.inverse.long()]


def ordinals_of(by_table: Tensor, device: torch.device) -> Tensor:
    """int32 [n]: the ordinals that one line of `by_table` counts."""
    return torch.repeat_interleave(torch.arange(len(by_table), dtype=torch.int32), by_table).to(device)


def runs_of_equal(ids: Tensor, ordinals: Tensor) -> Tensor:
    """Bounds int64 [runs + 1] of equal neighbours."""
    changes = (ids[1:] != ids[:-1]) | (ordinals[1:] != ordinals[:-1])
    starts = F.pad(changes.nonzero().flatten() + 1, (1, 0))[: len(ids)]
    return F.pad(starts, (0, 1), value=len(ids))
