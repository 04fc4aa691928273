"""Checks of what a Trainer is given, and what it does with data."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import nn

from recis_core.framework.named_metrics import NamedMetrics
from recis_core.framework.training_arguments import TrainingArguments
from recis_core.io.windows import Windows
from recis_core.optim import JointOptimizer


def from_the_start(data: Any) -> None:
    """Let the next pass over data with epochs be its epoch 0."""
    set_epoch = getattr(data, "set_epoch", None)
    if set_epoch is not None:
        set_epoch(0)


def check_inputs(model: Any, args: Any, eval_dataset: Any, train_dataset: Any, optimizers: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}.")
    if not isinstance(args, TrainingArguments):
        raise TypeError(f"args must be TrainingArguments; got {type(args).__name__}.")
    if not isinstance(optimizers, JointOptimizer) and not (isinstance(optimizers, tuple) and len(optimizers) == 2):
        raise TypeError(
            "optimizers must be one of recis_core.optim.join, or a pair (dense optimizer, sparse optimizer); got "
            f"{type(optimizers).__name__}."
        )
    for name, data in (("train_dataset", train_dataset), ("eval_dataset", eval_dataset)):
        if data is not None and not isinstance(data, Iterable):
            raise TypeError(f"{name} must be an iterable of batches; got {type(data).__name__}.")
    if isinstance(eval_dataset, Windows):
        raise TypeError(
            "eval_dataset must be batches; windows are a train_dataset, and each brings what to evaluate on."
        )
    if args.eval_steps is not None and eval_dataset is None and not isinstance(train_dataset, Windows):
        raise ValueError("eval_steps needs data to evaluate on; give the Trainer an eval_dataset.")


def check_extra(extra: Any, own: Collection[str]) -> None:
    """Raises TypeError unless it is a dict of objects with a state, ValueError where a name is one of the Trainer's own."""
    if not isinstance(extra, Mapping):
        raise TypeError(f"extra must be {{name: object with state_dict and load_state_dict}}; got {extra!r:.200}.")
    if taken := sorted(set(extra) & set(own)):
        raise ValueError(f"extra names {taken}, which a Trainer keeps already; give other names.")


def check_metrics(manager: object, metrics: NamedMetrics) -> None:
    """Raises TypeError if a checkpoint could not keep the sums of a metric that is in work."""
    lacking = [] if manager is None else metrics.without_state()
    if lacking:
        raise TypeError(
            f"train_metrics {lacking} need state_dict and load_state_dict, for a run with checkpoints goes on with their sums; "
            "those of recis_core.metrics have them."
        )
