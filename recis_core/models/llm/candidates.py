"""The ids among which the next item is predicted.

Sizes: P positions that predict an item, C candidates.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recis_core.exchange.gathering import gathered


def candidates_among(targets: Tensor, given: Tensor | None, channel: Any, *, in_batch: bool) -> Tensor:
    """int64 [C], each id once, ascending: the given ones, and with in_batch the targets of all ranks. Then collective.

    targets: int64 [P], of this rank.
    """
    parts = [] if given is None else [given.to(targets.device)]
    if in_batch:
        parts += [targets] if channel is None else [ids.to(targets.device) for ids in gathered(channel, targets)]
    return torch.cat(parts).unique() if parts else targets[:0]
