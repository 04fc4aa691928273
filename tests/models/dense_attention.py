"""Attention as its formula says, one sequence at a time, with every score in memory; and the same with padding.

Sizes: T rows, L rows of one sequence, H heads, D dim of a head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recis_core.models import RelativeBias


def dense_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: list[int],
    kind: str,
    bias: RelativeBias,
    window: int | None,
    divisor: float,
) -> Tensor:
    parts, start = [], 0
    for length in lengths:
        rows = slice(start, start + length)
        scores = torch.einsum("ihd,jhd->hij", q[rows], k[rows]) / math.sqrt(q.shape[2]) + bias_of(bias, rows)
        distance = torch.arange(length)[:, None] - torch.arange(length)
        seen = (distance >= 0) & (distance < (window or length + 1))
        if kind == "softmax":
            weights = scores.masked_fill(~seen, -math.inf).softmax(-1)
        else:
            weights = (scores * scores.sigmoid()).masked_fill(~seen, 0.0) / divisor
        parts.append(torch.einsum("hij,jhd->ihd", weights, v[rows]))
        start += length
    return torch.cat(parts)


def bias_of(bias: RelativeBias, rows: slice) -> Tensor:
    """[L, L], or a zero."""
    length, found = rows.stop - rows.start, torch.zeros((), dtype=torch.float64)
    if bias.position is not None:
        distance = torch.arange(length)[:, None] - torch.arange(length)
        found = found + bias.position[distance.clamp(0, len(bias.position) - 1)]
    if bias.time is not None and bias.timestamps is not None:
        at = bias.timestamps[rows].double()
        spans = (2 * (1 + (at[:, None] - at).abs()).log2()).floor().long()
        found = found + bias.time[spans.clamp(max=len(bias.time) - 1)]
    return found
