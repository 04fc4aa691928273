"""The loss of predicting the next item among candidates.

Sizes: P positions that predict an item, C candidates, D dim of the item table.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recis_core.exchange.gathering import gathered


def candidates_among(targets: Tensor, given: Tensor | None, channel: Any, *, in_batch: bool) -> Tensor:
    """int64 [C], each id once, ascending: the given ones, and with in_batch the targets of all ranks. Then collective."""
    parts = [] if given is None else [given.to(targets.device)]
    if in_batch:
        parts += [targets] if channel is None else [ids.to(targets.device) for ids in gathered(channel, targets)]
    return torch.cat(parts).unique() if parts else targets[:0]


def next_item_losses(vectors: Tensor, own: Tensor, targets: Tensor, rows: Tensor, candidates: Tensor) -> Tensor:
    """-log softmax of each position's own item among its own item and the candidates, float32 [P].

    loss[p] = log(exp(s_p) + Σ_{c ≠ target_p} exp(vector_p · row_c)) - s_p,   s_p = vector_p · own_p

    Args:
      vectors: [P, D] predictions. own: [P, D] rows of the targets, whose ids are `targets` [P].
      rows: [C, D] of the candidates, whose ids are `candidates` [C], each once. A target among them counts once.
    """
    vectors, own, rows = vectors.float(), own.float(), rows.float()
    score = (vectors * own).sum(1, keepdim=True)
    others = (vectors @ rows.T).masked_fill(candidates == targets[:, None], -torch.inf)
    return torch.cat([score, others], 1).logsumexp(1) - score[:, 0]
