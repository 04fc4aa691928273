"""HSTU's layers as plain torch has them: histories padded to the longest, all scores of all pairs in memory.

Sizes: B sequences, L rows of the longest, T rows of all, D dim, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from recis_core.models.hstu import HSTULayer


class Padding:
    """Rows [T, …] to [B, L, …] and back, and what all layers share: which keys are seen, distances, spans of time."""

    def __init__(self, offsets: Tensor, timestamps: Tensor, window: int | None, layer: HSTULayer) -> None:
        lengths = offsets.diff()
        at = torch.arange(int(lengths.max()))
        self.there = at < lengths[:, None]
        distance = at[:, None] - at
        self.seen = (distance >= 0) & (distance < (len(at) if window is None else window))
        self.steps = distance.clamp(0, layer.max_length - 1)
        clock = self.of(timestamps)
        passed = (clock[:, :, None] - clock[:, None, :]).abs().float()
        spans = 0 if layer.by_time is None else len(layer.by_time)
        self.spans = ((passed + 1).log2() * 2).long().clamp(max=spans - 1)

    def of(self, rows: Tensor) -> Tensor:
        padded = rows.new_zeros(*self.there.shape, *rows.shape[1:])
        padded[self.there] = rows
        return padded


def padded_hstu(
    layers: Sequence[HSTULayer], x: Tensor, offsets: Tensor, timestamps: Tensor, window: int | None
) -> Tensor:
    """[T, D] -> [T, D], by the layers' weights. Without dropout."""
    padding = Padding(offsets, timestamps, window, layers[0])
    padded = padding.of(x)
    for layer in layers:
        padded = _layer(layer, padded, padding)
    return padded[padding.there]


def _layer(layer: HSTULayer, x: Tensor, padding: Padding) -> Tensor:
    u, v, q, k = F.silu(layer.to_uvqk(layer.before(x))).chunk(4, dim=2)
    q, k, v = (each.unflatten(2, (layer.heads, -1)).transpose(1, 2) for each in (q, k, v))
    bias = layer.by_distance[padding.steps]
    if layer.by_time is not None:
        bias = bias + layer.by_time.index_select(0, padding.spans.flatten()).view(padding.spans.shape)[:, None]
    scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5 + bias
    seen = F.silu(scores).masked_fill(~padding.seen, 0.0) / layer.max_length @ v
    out: Tensor = x + layer.out(layer.after(seen.transpose(1, 2).flatten(2)) * u)
    return out
