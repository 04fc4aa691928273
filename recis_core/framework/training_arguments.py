"""What a training run is told beside its model and data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

Precision = Literal["bf16", "fp16"]
Parallel = Literal["ddp", "fsdp2", "none"]

COUNTS = ("gradient_accumulation_steps", "train_epoch", "log_steps", "save_steps", "max_to_keep")
COUNTS_OR_NONE = ("train_steps", "eval_steps", "prefetch_threads")


@dataclass(frozen=True, kw_only=True)
class TrainingArguments:
    """Arguments of a Trainer.

    Args:
      gradient_accumulation_steps: batches of one optimizer step. The loss is the mean over the rows of all of them, so n
        small batches train as one large one; the last step of an epoch takes as many as there are.
      train_steps: the step after which training ends; counts from the run's beginning, also after restore(). None: at the
        end of the data.
      train_epoch: passes over the data; over each window of data that comes in windows.
      eval_steps: steps between evaluations; None evaluates only where train_and_evaluate does.
      log_steps: steps between values of the train_metrics.
      output_dir: where checkpoints go, a directory or an fsspec URL; None saves none, unless the Trainer is given a
        CheckpointManager. save_steps: steps between them. max_to_keep: how many are kept, the newest.
      metric_for_best: name of a metric of evaluations: with output_dir the best checkpoint by it is kept, too; and a
        ReduceLROnPlateau steps by it. greater_is_better: False for a metric such as a loss.
      mixed_precision: "bf16" or "fp16" runs forward and loss under torch.autocast, "fp16" with a GradScaler; tables keep
        their own precision. None: as the model is.
      max_grad_norm: gradients, dense and sparse together, are scaled down to this 2-norm; None: never.
      loss_weights: {name: factor} of losses of a model that gives several; a loss without one has 1.
      label: key of a batch, for losses and metrics; None gives them the whole batch.
      parallel: how several ranks hold the dense side: "ddp" each whole, "fsdp2" each a shard, "none" as the model comes.
      compile: True, or a name of one of torch.compile's backends: the model's forward is compiled around its lookups.
      prefetch: batches that are read ahead, so that their rows are on the device when they come: for a model whose
        sparse_features(batch) gives what its EmbeddingEngine looks up; see nn.Prefetcher. Training has the same bits with and
        without. prefetch_threads: threads of training's loops beside the one that reads ahead; None: all.
      seed: of torch's, numpy's and Python's random numbers, set when the Trainer is made; None leaves them.

      end_on_signals: training listens to Ctrl-C and SIGTERM by itself, as inside ending_on_signals(), where the program
        has no handlers of its own for them. False: as Python has them, so a Ctrl-C breaks off a step, unsaved.

    Raises:
      TypeError, ValueError: an argument is no such value; names it.

    As recis.framework.trainer.TrainingArguments, whose names these are where it has them.
    """

    gradient_accumulation_steps: int = 1
    train_steps: int | None = None
    train_epoch: int = 1
    eval_steps: int | None = None
    log_steps: int = 100
    output_dir: str | None = None
    save_steps: int = 1000
    max_to_keep: int = 5
    metric_for_best: str | None = None
    greater_is_better: bool = True
    mixed_precision: Precision | None = None
    max_grad_norm: float | None = None
    loss_weights: Mapping[str, float] = field(default_factory=dict)
    label: str | None = "label"
    parallel: Parallel = "ddp"
    compile: bool | str = False
    prefetch: int = 0
    prefetch_threads: int | None = None
    seed: int | None = None
    end_on_signals: bool = True

    def __post_init__(self) -> None:
        for name in COUNTS:
            _check_count(name, getattr(self, name))
        for name in COUNTS_OR_NONE:
            if getattr(self, name) is not None:
                _check_count(name, getattr(self, name))
        if self.prefetch != 0 or isinstance(self.prefetch, bool | float):
            _check_count("prefetch", self.prefetch)
        if self.prefetch_threads is not None and not self.prefetch:
            raise ValueError("prefetch_threads needs prefetch, which reads ahead beside them; got prefetch=0.")
        _check_one_of("mixed_precision", self.mixed_precision, (None, *get_args(Precision)))
        _check_one_of("parallel", self.parallel, get_args(Parallel))
        for f in fields(self):
            _check_kind(f.name, getattr(self, f.name))
        if self.max_grad_norm is not None:
            _check_positive("max_grad_norm", self.max_grad_norm)
        _check_weights(self.loss_weights)
        if self.seed is not None and not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in [0, 2**32), as numpy's is; got {self.seed}.")


KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "output_dir": ((str, type(None)), "a directory's name, a URL or None"),
    "greater_is_better": ((bool,), "True or False"),
    "metric_for_best": ((str, type(None)), "a metric's name or None"),
    "label": ((str, type(None)), "a key of batches or None"),
    "compile": ((bool, str), "True, False or the name of a compiler's backend"),
    "seed": ((int, type(None)), "an int or None"),
    "end_on_signals": ((bool,), "True or False"),
}


def _check_kind(name: str, value: Any) -> None:
    kinds, words = KINDS.get(name, ((object,), ""))
    if not isinstance(value, kinds):
        raise TypeError(f"{name} must be {words}; got {value!r}.")


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int; got {value!r}.")
    if value < 1:
        raise ValueError(f"{name} must be at least 1; got {value}.")


def _check_one_of(name: str, value: Any, known: tuple[Any, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}; got {value!r}.")


def _check_positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number; got {value!r}.")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be finite and above 0; got {value}.")


def _check_weights(weights: Any) -> None:
    if not isinstance(weights, Mapping):
        raise TypeError(f"loss_weights must be a dict of numbers by a loss's name; got {weights!r}.")
    for name, value in weights.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"loss_weights[{name!r}] must be a finite number; got {value!r}.")
