"""Optimizers that TorchRec names for tables, and which parameters have one in backward."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import torch
from torch import nn

from recis_core.backends.errors import RecisError

__all__ = ["SGD", "Adagrad", "Adam", "in_backward_optimizer_filter"]


class _ForTables(torch.optim.Optimizer):
    """Says a rule and its numbers. The step is the tables'."""

    def __init__(self, params: Iterable[Any], **numbers: Any) -> None:
        super().__init__(params, numbers)

    def step(self, closure: Any = None) -> NoReturn:
        raise RecisError(
            f"torchrec.optim.{type(self).__name__} steps tables alone, by apply_optimizer_in_backward. Use "
            f"torch.optim.{type(self).__name__} for dense parameters."
        )


class SGD(_ForTables):
    """Stochastic gradient descent. As torchrec.optim.SGD."""

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay)


class Adagrad(_ForTables):
    """Adagrad with a sum for each value. As torchrec.optim.Adagrad."""

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, eps: float = 1e-8, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr=lr, eps=eps, weight_decay=weight_decay)


class Adam(_ForTables):
    """Adam. As torchrec.optim.Adam."""

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-2, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=0.0)


def in_backward_optimizer_filter(
    named_parameters: Iterable[tuple[str, nn.Parameter]], include: bool = False
) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters without an optimizer in backward; with include=True those that have one."""
    for name, parameter in named_parameters:
        if hasattr(parameter, "_in_backward_optimizers") == include:
            yield name, parameter
