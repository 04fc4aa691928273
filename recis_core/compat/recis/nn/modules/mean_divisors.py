"""What "mean" divides by. RecIS has two divisors, by how many ids a call has.

Sizes: N weights, S segments.
"""

from __future__ import annotations

import torch
from torch import Tensor

FEW = 5  # ids an offset up to which a call divides by Σ weights, and above by the count


def by_weight(weights: Tensor, segments: Tensor, count: int) -> Tensor:
    """weights [N] over Σ weights of their segment, segments int64 [N] of `count`; 0 where the sum is 0."""
    return _over(
        weights,
        torch.zeros(count, dtype=weights.dtype, device=weights.device).index_add(0, segments, weights),
        segments,
    )


def by_count(weights: Tensor, segments: Tensor, count: int) -> Tensor:
    """weights [N] over the number of weights of their segment."""
    return _over(weights, torch.bincount(segments, minlength=count).to(weights.dtype), segments)


def _over(weights: Tensor, divisors: Tensor, segments: Tensor) -> Tensor:
    mine = divisors[segments]
    return torch.where(mine == 0, torch.zeros_like(weights), weights / mine)
