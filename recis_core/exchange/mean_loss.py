"""One mean over the rows of all ranks, however many each of them has."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recis_core.channel.channel import sum_over_ranks
from recis_core.channel.rank_group import world_size


def global_mean(loss_sum: Tensor, rows: int | Tensor, pg: Any = None) -> Tensor:
    """The loss whose gradient, averaged over ranks, is that of Σ loss ÷ Σ rows over all ranks.

    loss = loss_sum · world ÷ Σ rows

    DDP and FSDP average dense gradients over ranks, and the exchange those of rows, so one loss scales both alike.
    Ranks may have unequal batches, also none: 0 · nothing is 0, never NaN. Collective.

    Args:
      loss_sum: 0-d, this rank's sum over its rows. rows: how many there are here. pg: None is the default group.

    Returns:
      0-d, attached to loss_sum; its mean over ranks is the global mean.

    Raises:
      ValueError: no rank has a row.
    """
    world = world_size(pg)
    total = int(rows) if world == 1 else sum_over_ranks("global_mean", torch.as_tensor(rows), pg)
    if total == 0:
        raise ValueError("no rank has a row; a mean over none is undefined. Stop, or skip this step on every rank.")
    return loss_sum * (world / total)
