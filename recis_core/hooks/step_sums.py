"""Sums over the steps between two log lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recis_core.hooks.run import StepResult

LOSS = "loss"


@dataclass(frozen=True)
class LoggedSteps:
    """Steps up to `step`, since the last log.

    steps: how many. losses: "loss", and "loss/<name>" where a model gives several; means over the rows of all ranks.
    metrics: the latest value of each that these steps have. rows: of the run so far. rows_per_s, steps_per_s: by wall time
    of this process, reading included, evaluations and saves left out; 0 where no time has passed.
    partial: whether training ended before there were as many steps as a line is of.
    """

    step: int
    steps: int
    rows: int
    losses: Mapping[str, float]
    metrics: Mapping[str, float] = field(default_factory=dict)
    rows_per_s: float = 0.0
    steps_per_s: float = 0.0
    partial: bool = False

    def scalars(self) -> dict[str, float]:
        """Losses, metrics and rows_per_s by name; what TensorBoard and JSON lines hold."""
        return {**self.losses, **self.metrics, "rows_per_s": self.rows_per_s}


class StepSums:
    """Of the steps since the last log."""

    def __init__(self) -> None:
        self.steps = self.rows = 0
        self._losses: dict[str, float] = {}
        self._metrics: dict[str, float] = {}

    def add(self, result: StepResult) -> None:
        self.steps, self.rows, self._metrics = (
            self.steps + 1,
            self.rows + result.rows,
            {**self._metrics, **result.metrics},
        )
        for name, loss in (("", result.loss), *result.losses.items()):
            key = f"{LOSS}/{name}" if name else LOSS
            # A step without rows has no loss: NaN times 0 would be NaN.
            self._losses[key] = self._losses.get(key, 0.0) + (loss * result.rows if result.rows else 0.0)

    def losses(self) -> dict[str, float]:
        """Means over rows; NaN where there is no row."""
        return {name: total / self.rows if self.rows else float("nan") for name, total in self._losses.items()}

    @property
    def metrics(self) -> dict[str, float]:
        """The latest value of each that these steps have."""
        return self._metrics

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "rows": self.rows, "losses": dict(self._losses), "metrics": dict(self._metrics)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps, self.rows = int(state["steps"]), int(state["rows"])
        self._losses, self._metrics = dict(state["losses"]), dict(state["metrics"])
