"""The MLP of all models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn


def _relu(width: int) -> nn.Module:
    return nn.ReLU()


def mlp(
    sizes: Sequence[int],
    *,
    last_relu: bool = False,
    dropout: float = 0.0,
    activation: Callable[[int], nn.Module] = _relu,
) -> nn.Sequential:
    """Linear layers of these sizes with an activation between them; last_relu: also after the last. activation: by width."""
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(fan_in, fan_out))
        if last_relu or i < len(sizes) - 2:
            layers.append(activation(fan_out))
            if dropout:
                layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)
