"""Layers of perceptrons, as torchrec.modules.mlp has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

ACTIVATIONS = {"relu": torch.relu, "sigmoid": torch.sigmoid}


class Perceptron(nn.Module):
    """activation(linear(x)), [..., in_size] to [..., out_size]. As torchrec.modules.mlp.Perceptron."""

    def __init__(
        self,
        in_size: int,
        out_size: int,
        bias: bool = True,
        activation: Callable[[Tensor], Tensor] = torch.relu,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self._linear = nn.Linear(in_size, out_size, bias=bias, device=device, dtype=dtype)
        self._activation_fn = activation

    def forward(self, input: Tensor) -> Tensor:
        return self._activation_fn(self._linear(input))


class MLP(nn.Module):
    """Perceptrons, one after another, with parameters under TorchRec's names.

    Args:
      activation: "relu", "sigmoid", a function or module, or a class that makes a module for each layer.
      activation_on_last: whether the last layer has one, too.

    Raises:
      ValueError: the activation has another name.

    As torchrec.modules.mlp.MLP.
    """

    def __init__(
        self,
        in_size: int,
        layer_sizes: list[int],
        bias: bool = True,
        activation: Any = torch.relu,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        activation_on_last: bool = True,
    ) -> None:
        super().__init__()
        if isinstance(activation, str) and activation not in ACTIVATIONS:
            raise ValueError(f"activation must be {', '.join(ACTIVATIONS)}, or a function; got {activation!r}.")
        chosen = ACTIVATIONS[activation] if isinstance(activation, str) else activation
        sizes, last = [in_size, *layer_sizes], len(layer_sizes) - 1
        self._mlp = nn.Sequential(
            *[
                Perceptron(
                    sizes[i], sizes[i + 1], bias,
                    _one(chosen) if activation_on_last or i < last else nn.Identity(), device, dtype,
                )
                for i in range(len(layer_sizes))
            ]
        )  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:
        """[B, in_size] to [B, the last of layer_sizes]."""
        output: Tensor = self._mlp(input)
        return output


def _one(activation: Any) -> Callable[[Tensor], Tensor]:
    made: Callable[[Tensor], Tensor] = activation() if isinstance(activation, type) else activation
    return made
