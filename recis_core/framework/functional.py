"""Training in one call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from recis_core.framework.trainer import Trainer
from recis_core.framework.training_arguments import TrainingArguments


def train(model: nn.Module, args: TrainingArguments, train_dataset: Iterable[Any], **how: Any) -> Trainer:
    """Trainer(model, args, train_dataset, **how).train(); the Trainer, for what comes after."""
    trainer = Trainer(model, args, train_dataset, **how)
    trainer.train()
    return trainer


def train_and_evaluate(
    model: nn.Module,
    args: TrainingArguments,
    train_dataset: Iterable[Any],
    eval_dataset: Iterable[Any] | None = None,
    **how: Any,
) -> dict[str, float]:
    """Trainer(model, args, train_dataset, eval_dataset, **how).train_and_evaluate(): the last metrics."""
    return Trainer(model, args, train_dataset, eval_dataset, **how).train_and_evaluate()
