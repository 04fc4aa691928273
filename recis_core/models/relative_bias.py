"""Biases of attention scores by distance and by time between rows, worked out block by block.

Sizes: T rows, C rows of a block, M blocks, n block pairs, H heads, P distances, K spans of time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recis_core.models.jagged_blocks import BlockGroup


@dataclass(frozen=True)
class RelativeBias:
    """What is added to a score: position[min(distance, P − 1)] + time[min(⌊2·log2(1 + seconds)⌋, K − 1)].

    position: floating [P]. time: floating [K], with timestamps: int64 [T]. None leaves a bias out. All heads share both.
    Seconds are absolute; any unit of time does. HSTU's rab, Zhai et al. 2024, arXiv:2402.17152, §3.2.
    """

    position: Tensor | None = None
    time: Tensor | None = None
    timestamps: Tensor | None = None


class GroupBias:
    """The biases of a group of blocks."""

    def __init__(self, bias: RelativeBias, group: BlockGroup) -> None:
        self._position, self._time, self._group = bias.position, bias.time, group
        self._clock = None if bias.timestamps is None else group.cut(bias.timestamps[:, None]).squeeze(1)  # [M, C]

    def add_to(self, scores: Tensor, back: int, queries: Tensor) -> Tensor:
        """Scores [n, H, C, C] with their biases."""
        if self._position is not None:
            scores = scores + self._position.to(scores.dtype)[self._steps(back, len(self._position))]
        if self._time is not None and self._clock is not None:
            places = _spans(self._clock, back, queries, len(self._time))
            of_pairs = self._time.to(scores.dtype).index_select(0, places.flatten()).view(places.shape)
            scores = scores + of_pairs[:, None]
        return scores

    def add_gradients(self, sums: BiasSums, of_scores: Tensor, back: int, queries: Tensor) -> None:
        """of_scores: the gradient of scores, [n, H, C, C]."""
        of_pairs = of_scores.sum(1)
        if sums.position is not None:
            _add_at(sums.position, self._steps(back, len(sums.position)), of_pairs.sum(0))
        if sums.time is not None and self._clock is not None:
            _add_at(sums.time, _spans(self._clock, back, queries, len(sums.time)), of_pairs)

    def _steps(self, back: int, most: int) -> Tensor:
        """int64 [C, C], places in `position`."""
        return self._group.distance(back).clamp(0, most - 1)


class BiasSums:
    """Gradients of a RelativeBias over all groups, in the dtype of scores; None where there is no bias."""

    def __init__(self, bias: RelativeBias, dtype: torch.dtype) -> None:
        self.position = None if bias.position is None else torch.zeros_like(bias.position, dtype=dtype)
        self.time = None if bias.time is None else torch.zeros_like(bias.time, dtype=dtype)

    def as_gradients(self, bias: RelativeBias) -> list[Tensor | None]:
        """Of position and of time, in their dtypes."""
        pairs = ((self.position, bias.position), (self.time, bias.time))
        return [None if sums is None or of is None else sums.to(of.dtype) for sums, of in pairs]


def _spans(clock: Tensor, back: int, queries: Tensor, most: int) -> Tensor:
    """int64 [n, C, C], places in `time`. clock: int64 [M, C]."""
    at, before = clock.index_select(0, queries), clock.index_select(0, queries - back)
    passed = (at[:, :, None] - before[:, None, :]).float().abs_()
    return passed.add_(1).log2_().mul_(2).clamp_(max=most - 1).long()


def _add_at(sums: Tensor, places: Tensor, values: Tensor) -> None:
    """sums[places] += values, in one order on every run: on a GPU index_add_ has none, on a CPU index_put_."""
    places, values = places.flatten(), values.flatten()
    if sums.device.type == "cpu":
        sums.index_add_(0, places, values)
    else:
        sums.index_put_((places,), values, accumulate=True)
