"""From a TrainConfig and its source to a Trainer and its log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch.nn.functional as F
from torch import nn

from recis_core.cli.build import build_optimizer
from recis_core.cli.columns import LABEL
from recis_core.cli.measure import by_name, trainer_metrics
from recis_core.cli.saved_states import SavedStates
from recis_core.cli.source import Batch, Source
from recis_core.cli.train_config import TrainConfig
from recis_core.framework import Logged, Trainer, TrainingArguments
from recis_core.framework.training_log import AUC, TrainingLog
from recis_core.framework.window_auc import WindowAUC
from recis_core.hooks import EvictHook, Hook


class TrainRows:
    """The training rows of a source, once a pass: those that the run has trained in this pass are left out.

    The position is the run's own count of rows, so a batch that was read and not trained is read again.
    """

    follows_steps = True

    def __init__(self, source: Source, batch_size: int) -> None:
        self._source, self._batch_size = source, batch_size
        self.run: Trainer | None = None

    @property
    def rows_in_epoch(self) -> int:
        return 0 if self.run is None else self.run.rows - self.run.epoch * self._source.train_rows

    def __iter__(self) -> Iterator[Batch]:
        return self._source.train_batches(self._batch_size, first_row=self.rows_in_epoch)

    def state_dict(self) -> dict[str, int]:
        return {"rows_in_epoch": self.rows_in_epoch}

    def load_state_dict(self, state: Any) -> None:
        """The run's counts, which are loaded beside, say it."""


class TestRows:
    """The test rows of a source, as often as they are asked for."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __iter__(self) -> Iterator[Batch]:
        return self._source.test_batches()


def build_trainer(
    config: TrainConfig,
    source: Source,
    model: nn.Module,
    saved: SavedStates,
    told: Mapping[str, Any],
    on_log: Callable[[Logged], None],
) -> tuple[Trainer, TrainingLog]:
    """told: what checkpoints tell of the run. Collective."""
    args = TrainingArguments(
        train_steps=config.steps, train_epoch=config.epochs, log_steps=config.log.every, label=LABEL,
        prefetch=config.prefetch.batches, prefetch_threads=config.prefetch.threads,
    )  # fmt: skip
    rows, auc = TrainRows(source, config.batch_size), WindowAUC()
    trainer = Trainer(
        model, args, rows, TestRows(source), optimizers=build_optimizer(config, model),
        loss=F.binary_cross_entropy_with_logits, metrics=trainer_metrics(by_name(config.log.metrics)),
        train_metrics={AUC: auc}, checkpoints=saved.manager, extra=told, rows=lambda batch: len(batch[LABEL]),
    )  # fmt: skip
    rows.run, log = trainer, TrainingLog(trainer, auc, on_log)
    evict = config.hooks.steps_between
    hooks: list[Hook] = [saved, log, *([] if evict is None else [EvictHook(evict)])]
    for hook in hooks:
        trainer.add_hook(hook)
    return trainer, log
