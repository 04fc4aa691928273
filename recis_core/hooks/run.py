"""What a hook sees of a training run: framework.Trainer is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from recis_core.optim import JointOptimizer


@dataclass(frozen=True)
class StepResult:
    """One optimizer step, of all its micro-steps and ranks.

    loss: the mean over the rows of all ranks; losses: by name, where a model gives several. metrics: by name, what the
    model or the user's metrics gave for this step. rows: of all ranks.
    """

    step: int
    loss: float
    rows: int
    losses: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


class Run(Protocol):
    """step, rows, epoch, window: how many are done. phases: {phase: wall seconds so far in this process}, see Trainer."""

    model: nn.Module
    optimizer: JointOptimizer
    step: int
    rows: int
    epoch: int
    window: int
    phases: Mapping[str, float]

    @property
    def rank(self) -> int: ...

    @property
    def world(self) -> int: ...

    @property
    def max_steps(self) -> int | None:
        """The step after which training ends; None where epochs or the data decide."""

    @property
    def last_metrics(self) -> Mapping[str, float]:
        """Of the latest evaluation, by name; empty before."""

    def stop(self, reason: str) -> None:
        """End training after this step, on all ranks. On one rank is enough."""

    def save(self) -> Any:
        """Save a checkpoint of this step now. Collective."""

    def evaluate(self) -> Mapping[str, float]:
        """Evaluate on the run's evaluation data now. Collective."""


Batch = Mapping[str, Any]
Outputs = Mapping[str, Tensor] | Tensor
