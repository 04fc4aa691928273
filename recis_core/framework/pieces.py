"""The pieces that a Trainer is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from recis_core.framework.checkpointing import Checkpointing
from recis_core.framework.hook_calls import HookCalls
from recis_core.framework.metric_evaluation import Evaluator
from recis_core.framework.micro_batches import Reading
from recis_core.framework.named_metrics import NamedMetrics
from recis_core.framework.optimizer_step import OptimizerStep
from recis_core.framework.phases import Phases
from recis_core.framework.ranks import Ranks
from recis_core.framework.schedules import Schedules


@dataclass(frozen=True)
class Pieces:
    """rows: from a batch to its number of rows. empty: makes a batch without rows, or None."""

    timer: Phases
    ranks: Ranks
    hooks: HookCalls
    train_metrics: NamedMetrics
    schedules: Schedules
    one_step: OptimizerStep
    evaluator: Evaluator
    checkpoints: Checkpointing
    rows: Callable[[Any], int]
    empty: Callable[[], Any] | None

    def reading(self, batches: Iterator[Any], count: int) -> Reading:
        """In groups of up to `count` batches."""
        return Reading(batches, count, self.ranks, rows=self.rows, empty=self.empty)
