"""Batches through a model of logits, a Trainer's step each; with progress, and a state that saves and resumes.

Sizes: B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from recis_core.framework.log_window import Logged
from recis_core.framework.saved_loops import load_learned, resume_trainer
from recis_core.framework.trainer import Trainer
from recis_core.framework.training_arguments import TrainingArguments
from recis_core.framework.training_log import AUC, TrainingLog
from recis_core.framework.window_auc import WindowAUC
from recis_core.hooks import EvictHook
from recis_core.nn import filter_out_sparse_param
from recis_core.nn.hash_table import exchange_of
from recis_core.optim import JointOptimizer
from recis_core.serialize.dense import dense_state
from recis_core.serialize.tables import snapshot_tables

Batch = Mapping[str, Any]


class TrainLoop:
    """Trains a model of logits on binary labels, in a loop of yours: a Trainer's step, and its state for save_state.

    Where ranks share the model's tables, each is given its rows of every batch, as few as none; losses are means over the
    rows of all ranks, and logs tell of all ranks. Every method is then collective.

    Args:
      model: batch -> logits [B]. optimizer: from optim.join. label: key of float labels [B] in a batch.
      log_every: steps between calls of on_log. evict_every: steps after which tables evict by their filter_hook; None:
        never.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: JointOptimizer,
        *,
        label: str = "label",
        log_every: int = 10,
        on_log: Callable[[Logged], None] = lambda logged: None,
        evict_every: int | None = None,
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.exchange = exchange_of(model)
        auc = WindowAUC()
        self.trainer = Trainer(
            model, TrainingArguments(label=label, log_steps=log_every), optimizers=optimizer,
            loss=F.binary_cross_entropy_with_logits, train_metrics={AUC: auc}, rows=lambda batch: len(batch[label]),
        )  # fmt: skip
        self._log = TrainingLog(self.trainer, auc, on_log)
        self.trainer.add_hook(self._log)
        if evict_every is not None:
            self.trainer.add_hook(EvictHook(evict_every))
        self.rows_in_epoch = 0

    def train_step(self, batch: Batch) -> float:
        """One forward, backward and step over this rank's rows; the mean log loss of all ranks' rows."""
        result = self.trainer.train_step([batch])
        self.rows_in_epoch += result.rows
        return result.loss

    @property
    def step(self) -> int:
        return self.trainer.step

    @property
    def rows(self) -> int:
        return self.trainer.rows

    @property
    def epoch(self) -> int:
        return self.trainer.epoch

    def begin(self) -> None:
        """Start the clock of rows_per_s before the first batch is read; otherwise the first step does."""
        self._log.begin()

    def pause(self) -> None:
        """Stop that clock until the next step or begin(), for an evaluation."""
        self._log.pause()

    def end_epoch(self) -> None:
        self.trainer.epoch, self.rows_in_epoch = self.epoch + 1, 0

    def flush_log(self) -> None:
        """Report what was trained since the last report, if anything was."""
        self._log.flush()

    @property
    def rank(self) -> int:
        return self.trainer.rank

    @property
    def trained_rows(self) -> int:
        """Of all ranks, in this process."""
        return self._log.trained_rows

    @property
    def seconds(self) -> float:
        """Wall time of training in this process, reader included, up to the end of the last step."""
        return self._log.seconds

    @property
    def compile_seconds(self) -> float:
        """Seconds of them in which this rank compiled loops or programs."""
        return self._log.compile_seconds

    @property
    def rows_per_s(self) -> float:
        """trained_rows by `seconds`."""
        return self._log.rows_per_s

    def state(self) -> dict[str, Any]:
        """All that training resumes from, for serialize.save_state; on one process."""
        return {**self.shared_state(), **self.own_state()}

    def shared_state(self) -> dict[str, Any]:
        """What is the same on all ranks, for serialize.save_shared_state."""
        return {
            "progress": {
                "step": self.step,
                "rows": self.rows,
                "epoch": self.epoch,
                "rows_in_epoch": self.rows_in_epoch,
            },
            "dense": dense_state(self.model),
            "optimizer": self.optimizer.state_dict(),
        }

    def own_state(self) -> dict[str, Any]:
        """What differs from rank to rank: tables and random numbers."""
        tables = filter_out_sparse_param(self.model)
        return {"random": {"torch": torch.get_rng_state()}, **snapshot_tables(tables)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, of any number of ranks. Collective.

        What is refused changes nothing of this loop: all is read and checked first.

        Raises:
          StateMismatch (a ValueError): it is of another model or optimizer. CorruptCheckpoint: it is damaged.
        """
        self.rows_in_epoch = resume_trainer(self.trainer, state)

    def start_from(self, state: Mapping[str, Any], *, optimizer: bool = True) -> None:
        """Begin a new run with what another one learned: its tables and dense weights. Collective.

        Steps, rows and epochs count from 0, and random numbers are this process's.

        Args:
          optimizer: whether the optimizer's state comes too, of both sides; else it is as this loop's optimizer has it.

        Raises:
          As load_state; nothing is changed then.
        """
        load_learned(state, self.model, self.optimizer, fresh=not optimizer)
        self.trainer.step = self.trainer.rows = self.trainer.epoch = self.rows_in_epoch = 0
