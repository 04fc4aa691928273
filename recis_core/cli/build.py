"""From a TrainConfig to a model and its optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from recis_core import optim
from recis_core.cli.cache import named_by_flags, read_cache
from recis_core.cli.train_config import TrainConfig
from recis_core.exchange import Precision, Sharding
from recis_core.models import DLRM, DeepFM
from recis_core.nn import filter_out_sparse_param
from recis_core.options.plan_file import read_plan

OPTIMIZERS: dict[str, type[optim.SparseOptimizer]] = {
    "sgd": optim.SparseSGD,
    "adam": optim.SparseAdam,
    "adamw": optim.SparseAdamW,
    "adamwtf": optim.SparseAdamWTF,
    "adagrad": optim.SparseAdagrad,
    "rowwise_adagrad": optim.SparseRowWiseAdagrad,
}

LR = 1e-3


class Inputs(Protocol):
    """fields: names of sparse features. dense: number of dense columns."""

    fields: list[str]
    dense: int


def build_model(config: TrainConfig, source: Inputs, world: int = 1) -> nn.Module:
    model = {"deepfm": DeepFM, "dlrm": DLRM}[config.model]
    cache = read_cache(config)
    with named_by_flags():
        return model(
            source.fields, config.dim, dense=source.dense, seed=config.seed, backend=config.backend,
            precision=Precision.parse(config.precision), sharding=read_sharding(config.sharding, world),
            admit_hook=config.admit, filter_hook=config.evict,
            cache=cache,
        )  # fmt: skip


def read_sharding(text: str, world: int) -> Sharding | dict[str, Sharding]:
    """One for all tables, or a plan's by table name.

    Raises:
      ValueError: it is neither, or names a rank that is not there.
    """
    if Path(text).suffix in (".yaml", ".yml"):
        return read_plan(text, world_size=world if world > 1 else None)
    sharding = Sharding.parse(text)
    if world > 1:
        sharding.check_world(world)
    return sharding


def build_optimizer(config: TrainConfig, model: nn.Module) -> optim.JointOptimizer:
    lr = LR if config.lr is None else config.lr
    sparse = OPTIMIZERS[config.optimizer](filter_out_sparse_param(model), lr=lr)  # type: ignore[call-arg]
    return optim.join(torch.optim.Adam(model.parameters(), lr=lr), sparse)
