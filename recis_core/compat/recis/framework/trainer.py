"""RecIS's Trainer: its loop, its hooks, its checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from recis_core.compat.recis.framework.batches import any_rank, batches_of, has_windows, next_window
from recis_core.compat.recis.framework.checkpoint_manager import CheckpointManager, Saver
from recis_core.compat.recis.framework.dense_side import DenseSide
from recis_core.compat.recis.framework.metrics import get_global_metrics
from recis_core.compat.recis.framework.training_arguments import TrainingArguments
from recis_core.compat.recis.hooks.hook import Hook
from recis_core.compat.recis.hooks.logger_hook import LoggerHook

__all__ = ["Trainer", "TrainingArguments"]


class Trainer:
    """Trains a model whose forward gives the loss, on (stop, batch) data sets.

    Args:
      model: on its device; with several ranks it is wrapped in DDP.
      args: None is TrainingArguments().
      dense_optimizers: (optimizer, scheduler), each may be None.
      data_to_cuda: move batches to the GPU.
      mixed_precision: of accelerate's arguments the one there is: "no" or "bf16".

    Raises:
      TypeError: another argument of accelerate's.

    As recis.framework.Trainer. recis_core.framework.Trainer is our own.
    """

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        hooks: list[Hook] | None = None,
        dense_optimizers: tuple[Any, Any] = (None, None),
        sparse_optimizer: Any = None,
        data_to_cuda: bool = False,
        *,
        mixed_precision: str | None = None,
    ) -> None:
        self.args = TrainingArguments() if args is None else args
        self.hooks = [] if hooks is None else hooks
        self.train_dataset, self.eval_dataset, self.data_to_cuda = train_dataset, eval_dataset, data_to_cuda
        self.sparse_optimizer, self.gradient_accumulation_steps = (
            sparse_optimizer,
            self.args.gradient_accumulation_steps,
        )
        self._dense = DenseSide(model, *dense_optimizers, self.gradient_accumulation_steps, mixed_precision)
        self.model, (self.dense_optimizer, self.dense_lr_scheduler) = self._dense.model, dense_optimizers
        if sparse_optimizer is not None:
            sparse_optimizer.set_grad_accum_steps(self.gradient_accumulation_steps)
        self._global_step, self.has_restore = torch.zeros((), dtype=torch.int64), False
        self.build_checkpoint_manager(model, self.args)
        self.hooks.append(LoggerHook(self.args.log_steps))

    def build_saver(self, model: nn.Module, args: TrainingArguments) -> Saver:
        return Saver(model, self.sparse_optimizer, args.output_dir, args.max_to_keep, args.save_concurrency_per_rank)

    def build_checkpoint_manager(self, model: nn.Module, args: TrainingArguments) -> None:
        saver = self.build_saver(model, args)
        self.checkpoint_manager = CheckpointManager(saver, args.save_steps or 0)
        for name, data in (("train", self.train_dataset), ("eval", self.eval_dataset)):
            if data is not None and (name == "train" or has_windows(data)) and hasattr(data, "dump_io_state"):
                saver.register_io_state(f"{name}_io", data)
            if data is not None and has_windows(data):
                saver.register_for_checkpointing(f"{name}_window_io", data)
        if self.dense_optimizer is not None:
            saver.register_for_checkpointing("dense_optimizer", self.dense_optimizer)

    def add_hooks(self, hooks: Sequence[Hook]) -> None:
        for hook in hooks:
            self.add_hook(hook)

    def add_hook(self, hook: Hook) -> None:
        self.hooks.append(hook)

    def restore(self) -> None:
        """Load the model bank, then the newest checkpoint of output_dir; once."""
        if not self.has_restore:
            self.checkpoint_manager.load_model_bank(self.args.model_bank)
            self._global_step = self.checkpoint_manager.restore()
            self.has_restore = True

    def train(self, train_steps: int | None = None) -> None:
        """args.train_epoch epochs of at most train_steps − 1 steps each, with a checkpoint after each epoch."""
        self.restore()
        for epoch in range(self.args.train_epoch or 0):
            if has_windows(self.train_dataset):
                self.train_dataset.reset()
            self._train_loop(self.args.train_steps if train_steps is None else train_steps, epoch)
        self._end()

    def train_and_evaluate(
        self, epochs: int = 1, train_steps: int | None = None, eval_steps: int | None = None
    ) -> None:
        """Epochs of training, each followed by an evaluation."""
        self.restore()
        for epoch in range(epochs):
            self._train_loop(self.args.train_steps if train_steps is None else train_steps, epoch)
            self.evaluate(eval_steps)
        self._end()

    def evaluate(self, eval_steps: int | None = None) -> None:
        """At most eval_steps batches of eval_dataset; hooks get the global metrics of each."""
        self.restore()
        self.model.eval()
        for data in self._limited(self.eval_dataset, eval_steps):
            with torch.no_grad():
                self._dense.loss(data)
            self._after_step(dict(get_global_metrics()))
        self._end()

    def get_new_window_iter(self, dataset: Any) -> Iterator[Any] | None:
        """The next window's iterator; None after the last. Raises TypeError: the data set has no windows."""
        if not has_windows(dataset):
            raise TypeError(f"{type(dataset).__name__} has no windows.")
        return next_window(dataset)

    def sync_exit_flag(self, flag: bool) -> bool:
        """Whether the flag is set on any rank. Collective."""
        return any_rank(flag)

    def _limited(self, dataset: Any, most: int | None) -> Iterator[Any]:
        if most is not None and most <= 0:
            return
        for number, batch in enumerate(batches_of(dataset, to_cuda=self.data_to_cuda), 1):
            yield batch
            if most is not None and number >= most:
                return

    def _train_loop(self, max_steps: int | None, epoch: int) -> None:
        self.model.train()
        for data in self._limited(self.train_dataset, None if max_steps is None else max_steps - 1):
            self._after_step(self._train_step(data, epoch))
            self.checkpoint_manager.step()
        self.checkpoint_manager.save()

    def _train_step(self, data: Any, epoch: int) -> dict[str, Any]:
        """One micro-step; its metrics."""
        self._dense.zero_grad()
        if self.sparse_optimizer is not None:
            self.sparse_optimizer.zero_grad()
        with self._dense.micro_step():
            loss = self._dense.loss(data)
            metrics = {"epoch": epoch, "loss": loss.detach(), **get_global_metrics()}
            loss.backward()
        self._dense.step()
        if self.sparse_optimizer is not None:
            self.sparse_optimizer.step()
        self._dense.schedule()
        return metrics

    def _after_step(self, metrics: dict[str, Any]) -> None:
        for hook in self.hooks:
            hook.after_step(metrics, self._global_step)

    def _end(self) -> None:
        for hook in self.hooks:
            hook.end()
