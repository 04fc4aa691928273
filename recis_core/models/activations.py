"""Activations of DIN, by name.

Sizes: N rows, W units.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Dice(nn.Module):
    """Data adaptive activation: p·s + (1 − p)·α·s, where p = sigmoid((s − E[s]) / √(Var[s] + ε)) and α is learnt by unit.

    E and Var are of the batch in training, and running means in eval, as in BatchNorm1d. A batch of fewer than two rows has
    no variance, and takes the running ones. Zhou et al. 2018, arXiv:1706.06978, §5.3.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.normal = nn.BatchNorm1d(width, eps=1e-8, affine=False)
        self.alpha = nn.Parameter(torch.zeros(width))

    def forward(self, s: Tensor) -> Tensor:
        """[N, W] -> [N, W]."""
        norm = self.normal
        alone = len(s) < 2
        p = torch.sigmoid(
            nn.functional.batch_norm(s, norm.running_mean, norm.running_var, eps=norm.eps) if alone else norm(s)
        )
        return p * s + (1 - p) * self.alpha * s


ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "dice": Dice,
    "prelu": nn.PReLU,
    "relu": lambda width: nn.ReLU(),
}


def activation_of(name: str) -> Callable[[int], nn.Module]:
    """The activation's constructor, from the number of units. Raises ValueError if there is none of that name."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {name!r}.")
    return ACTIVATIONS[name]
