"""The flags of a run's optimizer."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from recis_core import optim
from recis_core.cli.flags import named, plain_errors
from recis_core.nn import filter_out_sparse_param

KINDS: dict[str, type[optim.SparseOptimizer]] = {
    "sgd": optim.SparseSGD,
    "adam": optim.SparseAdam,
    "adamw": optim.SparseAdamW,
    "adamwtf": optim.SparseAdamWTF,
    "adagrad": optim.SparseAdagrad,
    "rowwise_adagrad": optim.SparseRowWiseAdagrad,
}

LR = 1e-3


@plain_errors
@dataclass(frozen=True, kw_only=True)
class OptimizerFlags:
    """The optimizer of tables, beside Adam for the dense side."""

    name: Annotated[Literal["sgd", "adam", "adamw", "adamwtf", "adagrad", "rowwise_adagrad"], named("optimizer")] = (
        "adam"
    )
    """Of the tables; the dense side always uses Adam."""
    lr: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    """Learning rate of both sides; default: that of the run that is resumed or begun from, else 0.001."""

    def build(self, model: nn.Module) -> optim.JointOptimizer:
        lr = LR if self.lr is None else self.lr
        sparse = KINDS[self.name](filter_out_sparse_param(model), lr=lr)  # type: ignore[call-arg]
        return optim.join(torch.optim.Adam(model.parameters(), lr=lr), sparse)
