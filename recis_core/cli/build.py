"""From a TrainConfig to a model and its optimizer."""

from __future__ import annotations

from torch import nn

from recis_core.cli.cache import named_by_flags
from recis_core.cli.model import Inputs
from recis_core.cli.train_config import TrainConfig
from recis_core.optim import JointOptimizer


def build_model(config: TrainConfig, inputs: Inputs, world: int = 1) -> nn.Module:
    cache = config.cache.build(prefetch=config.prefetch.batches)
    with named_by_flags():
        return config.model.build(
            inputs, seed=config.seed, backend=config.backend, cache=cache, **config.exchange.build(world), **config.hooks.build()
        )  # fmt: skip


def build_optimizer(config: TrainConfig, model: nn.Module) -> JointOptimizer:
    return config.optimizer.build(model)
