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
    from torch.distributed.optim import _apply_optimizer_in_backward

    params = list(params)
    if any(isinstance(parameter, TableParameter) for parameter in params):
        rule_of(optimizer_class)
        numbers_of(optimizer_class, optimizer_kwargs)
    _apply_optimizer_in_backward(optimizer_class, params, optimizer_kwargs)
