"""Attention within one group of blocks: outputs, and gradients for which scores are worked out again.

Sizes: H heads, D dim of a head, Dv dim of values, C rows of a block, M blocks, n block pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from recis_core.models.jagged_blocks import BlockGroup
from recis_core.models.relative_bias import BiasSums, GroupBias, RelativeBias


@dataclass(frozen=True)
class Settings:
    """Numbers of a call. window: max_attention. seed: of what dropout drops."""

    kind: str
    scale: float
    divisor: float
    window: int | None
    dropout: float
    seed: int

    def generator(self, device: torch.device) -> torch.Generator | None:
        """One for all groups of a call, so that forward and backward draw alike; None without dropout."""
        return torch.Generator(device).manual_seed(self.seed) if self.dropout else None


@dataclass(frozen=True)
class Pair:
    """n block pairs: how many blocks lie between the two, numbers of their blocks of queries and of keys.

    allowed: bool [C, C], or None for all. kept: [n, H, C, C], 0 where dropout drops a weight, or None.
    """

    back: int
    allowed: Tensor | None
    queries: Tensor
    keys: Tensor
    kept: Tensor | None

    def dropped(self, weights: Tensor) -> Tensor:
        return weights if self.kept is None else weights * self.kept


class GroupScores:
    """Queries, keys and values of a group as blocks [M, H, C, D], and the scores of its pairs in `dtype`."""

    def __init__(
        self, group: BlockGroup, q: Tensor, k: Tensor, v: Tensor, bias: RelativeBias, settings: Settings
    ) -> None:
        self.group, self.settings = group, settings
        self.q, self.k, self.v = group.cut(q), group.cut(k), group.cut(v)
        self.bias = GroupBias(bias, group)
        self.dtype = torch.promote_types(q.dtype, torch.float32)

    def pairs(self, generator: torch.Generator | None) -> Iterator[Pair]:
        for back, allowed, queries, keys in self.group.passes(self.settings.window, self.q.shape[1]):
            yield Pair(back, allowed, queries, keys, self._kept(len(queries), generator))

    def _kept(self, n: int, generator: torch.Generator | None) -> Tensor | None:
        if generator is None:
            return None
        p, shape = self.settings.dropout, (n, self.q.shape[1], self.group.size, self.group.size)
        drawn = torch.rand(shape, generator=generator, device=self.q.device)
        return (drawn >= p).to(self.dtype) / (1 - p)

    def of(self, pair: Pair, forbidden: float) -> Tensor:
        """[n, H, C, C]; `forbidden` where a query does not see a key."""
        products = (self.q.index_select(0, pair.queries) @ self.k.index_select(0, pair.keys).transpose(2, 3)).to(
            self.dtype
        )
        scores = self.bias.add_to(products * self.settings.scale, pair.back, pair.queries)
        return scores if pair.allowed is None else scores.masked_fill_(~pair.allowed, forbidden)

    def values(self, pair: Pair, weights: Tensor) -> Tensor:
        """[n, H, C, Dv]: what the weights of a pair, after dropout, make of its values."""
        return (pair.dropped(weights).to(self.v.dtype) @ self.v.index_select(0, pair.keys)).to(self.dtype)

    def zeros_of(self, blocks: Tensor) -> Tensor:
        return torch.zeros_like(blocks, dtype=self.dtype)


def silu_outputs(scores: GroupScores, generator: torch.Generator | None) -> Tensor:
    """[M, H, C, Dv]."""
    out = scores.zeros_of(scores.v)
    for pair in scores.pairs(generator):
        weights = F.silu(scores.of(pair, 0.0)) / scores.settings.divisor  # silu(0) is 0
        out.index_add_(0, pair.queries, scores.values(pair, weights))
    return out


def softmax_outputs(scores: GroupScores, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """[M, H, C, Dv], and the logarithm of each row's sum of exponentials, [M, H, C]."""
    out = scores.zeros_of(scores.v)
    highest, total = torch.full_like(out[..., 0], -math.inf), torch.zeros_like(out[..., 0])
    for pair in scores.pairs(generator):
        found, before = scores.of(pair, -math.inf), highest[pair.queries]
        now = torch.maximum(before, found.amax(-1))  # finite: in a row's first pass it sees itself
        weights, shrink = (found - now[..., None]).exp_(), (before - now).exp_()
        out[pair.queries] = out[pair.queries] * shrink[..., None] + scores.values(pair, weights)
        total[pair.queries] = total[pair.queries] * shrink + weights.sum(-1)
        highest[pair.queries] = now
    return out / total[..., None], highest + total.log()


class GroupGradients:
    """Gradients of a group's blocks; those of biases are added to `sums`, of all groups.

    given: the outputs' gradient, [M, H, C, Dv]. of_softmax: what softmax_outputs gave; None for "silu".
    """

    def __init__(
        self, scores: GroupScores, given: Tensor, of_softmax: tuple[Tensor, Tensor] | None, sums: BiasSums
    ) -> None:
        self._scores, self._given, self._sums = scores, given, sums
        self.q, self.k, self.v = (scores.zeros_of(x) for x in (scores.q, scores.k, scores.v))
        # Of a softmax: norms, and Σ_j weight · its gradient, by which each gradient of a row is lessened.
        self._of_rows: tuple[Tensor, Tensor] | None = None
        if of_softmax is not None:
            out, norms = (x.to(scores.dtype) for x in of_softmax)
            self._of_rows = norms[..., None], (given.to(scores.dtype) * out).sum(-1, keepdim=True)

    def add_all(self, generator: torch.Generator | None) -> None:
        for pair in self._scores.pairs(generator):
            given = self._given.index_select(0, pair.queries)
            products = (given @ self._scores.v.index_select(0, pair.keys).transpose(2, 3)).to(self._scores.dtype)
            weights, of_scores = self._of_scores(pair, pair.dropped(products))
            self._add(pair, given, pair.dropped(weights), of_scores)
            self._scores.bias.add_gradients(self._sums, of_scores, pair.back, pair.queries)

    def _of_scores(self, pair: Pair, of_weights: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of a pair, and its scores' gradient, from that of the weights."""
        if self._of_rows is None:
            return self._of_silu(pair, of_weights)
        norms, lessened = (x[pair.queries] for x in self._of_rows)
        weights = (self._scores.of(pair, -math.inf) - norms).exp_()
        return weights, weights * (of_weights - lessened)

    def _of_silu(self, pair: Pair, of_weights: Tensor) -> tuple[Tensor, Tensor]:
        found, divisor = self._scores.of(pair, 0.0), self._scores.settings.divisor
        sigmoid = found.sigmoid()
        slopes = sigmoid * (1 + found * (1 - sigmoid)) / divisor
        if pair.allowed is not None:
            slopes.masked_fill_(~pair.allowed, 0.0)
        return found * sigmoid / divisor, of_weights * slopes

    def _add(self, pair: Pair, given: Tensor, weights: Tensor, of_scores: Tensor) -> None:
        scores = self._scores
        scaled = (of_scores * scores.settings.scale).to(scores.q.dtype)
        of_values = weights.to(scores.v.dtype).transpose(2, 3) @ given
        self.v.index_add_(0, pair.keys, of_values.to(scores.dtype))
        self.q.index_add_(0, pair.queries, (scaled @ scores.k.index_select(0, pair.keys)).to(scores.dtype))
        self.k.index_add_(
            0, pair.keys, (scaled.transpose(2, 3) @ scores.q.index_select(0, pair.queries)).to(scores.dtype)
        )
