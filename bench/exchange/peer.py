"""The named peer: torch.distributed and torch.nn.EmbeddingBag(sparse=True), rows sharded, nothing deduplicated.

Ids int64 to owners by all_to_all_single, rows float32 back; gradients the same way, to the ids that the owner still
has. Indices are mapped beforehand: a static table that pays for no hashing. Row r lives at rank r mod W.

Sizes: N ids of a rank's batch, D dim, W ranks.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Peer:
    """One rank's share of a table.

    Args:
      weight: float32 [rows here, D]. lr: of SGD on the mean of the ranks' gradients.
    """

    def __init__(self, weight: Tensor, lr: float) -> None:
        self.world, self.rank = dist.get_world_size(), dist.get_rank()
        self.rows = nn.EmbeddingBag.from_pretrained(weight, freeze=False, mode="sum", sparse=True)
        self.optimizer = torch.optim.SGD(self.rows.parameters(), lr=lr / self.world)
        self.sent: Counter[str] = Counter()

    def __call__(self, index: Tensor) -> Tensor:
        """float32 [N, D], with autograd. Collective."""
        order = torch.argsort(index % self.world, stable=True)
        give = torch.bincount(index % self.world, minlength=self.world)
        take = torch.empty_like(give)
        dist.all_to_all_single(take, give)
        self.sent["header"] += 8 * (self.world - 1)
        splits = give.tolist(), take.tolist()
        asked = self.swap(index[order], *splits, "ids")
        rows = self.rows(asked // self.world, torch.arange(len(asked)))
        return _Back.apply(rows, order, self, splits)

    def swap(self, tensor: Tensor, give: list[int], take: list[int], what: str) -> Tensor:
        out = tensor.new_empty((sum(take), *tensor.shape[1:]))
        dist.all_to_all_single(out, tensor.contiguous(), take, give)
        row_bytes = tensor.element_size() * tensor[0].numel()
        self.sent[what] += row_bytes * (sum(give) - give[self.rank])
        return out

    def step(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()


class _Back(torch.autograd.Function):
    """Rows to who asked, into the places they asked from; and in backward the gradients to the owners."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor, peer: Peer, splits: tuple[list[int], list[int]]) -> Tensor:
        ctx.peer, ctx.splits = peer, splits
        ctx.save_for_backward(order)
        give, take = splits
        out = torch.empty(len(order), rows.shape[1])
        out[order] = peer.swap(rows, take, give, "rows")
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (order,) = ctx.saved_tensors
        return ctx.peer.swap(grad[order], *ctx.splits, "gradients"), None, None, None
