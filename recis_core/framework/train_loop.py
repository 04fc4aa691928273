"""Batches through a model: forward, backward, one joint step; with progress, and a state that saves and resumes.

Sizes: B rows of a batch, W ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recis_core.exchange.mean_loss import global_mean
from recis_core.framework.cache_window import CacheWindow
from recis_core.framework.data_parallel import data_parallel
from recis_core.framework.log_window import Logged, LogWindow, WallClock
from recis_core.framework.loop_state import (
    LoopState,
    put_back_on_error,
    read_learned,
    read_loop_state,
)
from recis_core.nn import filter_out_sparse_param
from recis_core.nn.hash_table import evict_tables, exchange_of
from recis_core.optim import JointOptimizer
from recis_core.serialize.dense import dense_state, load_dense_state
from recis_core.serialize.parts import naming
from recis_core.serialize.shared_state import failing_together
from recis_core.serialize.tables import read_tables, snapshot_tables
from recis_core.uninterrupted import uninterrupted

Batch = Mapping[str, Any]


class TrainLoop:
    """Trains a model of logits on binary labels.

    Where ranks share the model's tables, each is given its rows of every batch, as few as none; the dense side runs
    under DistributedDataParallel, losses are means over the rows of all ranks, and logs tell of all ranks.
    Every method is then collective.

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
        self.model, self.optimizer, self.label = model, optimizer, label
        self.exchange = exchange_of(model)
        self._forward = model if self.exchange is None else data_parallel(model, self.exchange.channel.parent)
        self.log_every, self.on_log, self.evict_every = log_every, on_log, evict_every
        self.step = self.rows = 0
        self.epoch = self.rows_in_epoch = 0
        self.trained_rows = 0
        self._clock = WallClock()
        self._window = LogWindow(self._clock)
        self._caches = CacheWindow(model)

    def train_step(self, batch: Batch, rows: int | None = None) -> float:
        """One forward, backward and step.

        Args:
          rows: of the batch on all ranks together; None where one process has it all.

        Returns:
          the batch's mean log loss; with more ranks, numbers whose mean over ranks is that.
        """
        self.begin()
        self.model.train()
        labels = batch[self.label]
        logits = self._forward(batch)
        loss = self._loss(logits, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        value = loss.item()
        self._count(len(labels) if rows is None else rows)
        if self.evict_every is not None and self.step % self.evict_every == 0:
            evict_tables(filter_out_sparse_param(self.model))
        self._window.add(value, logits, labels)
        self._clock.read()
        if self.step % self.log_every == 0:
            self.flush_log()
        return value

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.exchange is None:
            return F.binary_cross_entropy_with_logits(logits, labels)
        total = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
        return global_mean(total, len(labels), self.exchange.channel.parent)

    def _count(self, rows: int) -> None:
        self.step += 1
        self.rows += rows
        self.rows_in_epoch += rows
        self.trained_rows += rows

    def begin(self) -> None:
        """Start the clock of rows_per_s before the first batch is read; otherwise the first step does."""
        self._clock.run()

    def pause(self) -> None:
        """Stop that clock until the next step or begin(), for an evaluation."""
        self._clock.pause()

    def end_epoch(self) -> None:
        self.epoch, self.rows_in_epoch = self.epoch + 1, 0

    def flush_log(self) -> None:
        """Report what was trained since the last report, if anything was."""
        if self._window.steps:
            channel = None if self.exchange is None else self.exchange.channel
            logged = self._window.logged(self.step, self._caches.since_last(), channel)
            self._window = LogWindow(self._clock)
            self.on_log(logged)

    @property
    def rank(self) -> int:
        return 0 if self.exchange is None else self.exchange.channel.rank

    @property
    def seconds(self) -> float:
        """Wall time of training in this process, reader included, up to the end of the last step."""
        return self._clock.seconds

    @property
    def compile_seconds(self) -> float:
        """Seconds of them in which this rank compiled loops or programs."""
        return self._clock.compiling

    @property
    def rows_per_s(self) -> float:
        """trained_rows, of all ranks in this process and without what a state brought, by `seconds`."""
        return self.trained_rows / self.seconds if self.seconds else 0.0

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
        self._load(state, lambda: read_loop_state(state, self.model, self.optimizer, self.rank), slots=True)

    def start_from(self, state: Mapping[str, Any], *, optimizer: bool = True) -> None:
        """Begin a new run with what another one learned: its tables and dense weights. Collective.

        Steps, rows and epochs count from 0, and random numbers are this process's.

        Args:
          optimizer: whether the optimizer's state comes too, of both sides; else it is as this loop's optimizer has it.

        Raises:
          As load_state; nothing is changed then.
        """
        kept = self.optimizer if optimizer else None
        self._load(state, lambda: read_learned(state, self.model, kept), slots=optimizer)

    def _load(self, state: Mapping[str, Any], read: Callable[[], LoopState], *, slots: bool) -> None:
        with put_back_on_error(self.optimizer) as changes:
            with failing_together(self.exchange):
                loaded = read()
                tables = read_tables(filter_out_sparse_param(self.model), state, slots=slots)
                if loaded.optimizer is not None:
                    with naming(state, "optimizer"):
                        self.optimizer.load_state_dict(loaded.optimizer)
            with uninterrupted():
                changes.stay = True
                for each in tables:
                    each.commit()
                load_dense_state(self.model, loaded.dense)
                torch.set_rng_state(loaded.random)
                vars(self).update(loaded.progress)
