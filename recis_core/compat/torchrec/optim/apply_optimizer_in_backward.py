"""Optimizers that act in backward, as torchrec.optim.apply_optimizer_in_backward has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from recis_core.compat.torchrec.modules.table_parameter import TableParameter
from recis_core.compat.torchrec.optim.rules import numbers_of, rule_of


def apply_optimizer_in_backward(
    optimizer_class: type[torch.optim.Optimizer],
    params: Iterable[torch.nn.Parameter],
    optimizer_kwargs: dict[str, Any],
) -> None:
    """Step these parameters in each backward: rows of tables at its end, dense parameters when their gradient is there.

    Say it before the first forward. Afterwards there is no gradient left, so that other optimizers pass over them;
    accumulation, a GradScaler and clipping have nothing to act on. torch's own _apply_optimizer_in_backward does the same.

    Args:
      optimizer_class: for tables SGD, Adagrad, Adam or AdamW of torch.optim, or SGD, Adagrad, RowWiseAdagrad or Adam of
        torchrec.optim.
      params: parameters of collections, or others.
      optimizer_kwargs: its numbers.

    Raises:
      RecisError: tables have no rule of that class. ValueError: a number is out of range. No parameter was changed.
    """
    params = list(params)
    tables = [parameter for parameter in params if isinstance(parameter, TableParameter)]
    if tables:
        rule_of(optimizer_class)
        numbers_of(optimizer_class, optimizer_kwargs)
    made = [optimizer_class([table], **optimizer_kwargs) for table in tables]
    if dense := [parameter for parameter in params if not isinstance(parameter, TableParameter)]:
        from torch.distributed.optim import _apply_optimizer_in_backward  # its package warns of torch's own jit

        _apply_optimizer_in_backward(optimizer_class, dense, optimizer_kwargs)
    for table, optimizer in zip(tables, made, strict=True):
        _mark(table, optimizer, optimizer_kwargs)


def _mark(parameter: Any, optimizer: torch.optim.Optimizer, numbers: dict[str, Any]) -> None:
    """Name the optimizer on the parameter, as torch does, by which collections and filters know."""
    if not hasattr(parameter, "_in_backward_optimizers"):
        parameter._in_backward_optimizers, parameter._optimizer_classes, parameter._optimizer_kwargs = [], [], []
    parameter._in_backward_optimizers.append(optimizer)
    parameter._optimizer_classes.append(type(optimizer))
    parameter._optimizer_kwargs.append(numbers)
