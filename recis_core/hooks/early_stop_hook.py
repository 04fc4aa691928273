"""The end of training once a metric no longer gets better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from recis_core.hooks.arguments import check_count
from recis_core.hooks.hook import Hook
from recis_core.hooks.run import Run

MODES = ("max", "min")


class EarlyStopHook(Hook):
    """Stops a run whose metric has not improved in `patience` evaluations, one after another.

    A metric that is not finite is no improvement. best, best_step: of the evaluations so far; None before the first one.
    A checkpoint keeps them, and how many evaluations were without improvement.

    Args:
      metric: its name in evaluations. mode: "max" where higher is better, "min" where lower is.
      min_delta: by how much, at least, a value must be better than the best one so far.

    Raises:
      TypeError, ValueError: an argument is wrong. KeyError: an evaluation has no such metric.
    """

    def __init__(self, metric: str, *, mode: str = "max", patience: int = 3, min_delta: float = 0.0) -> None:
        if mode not in MODES:
            raise ValueError(f'mode must be "max" or "min"; got {mode!r}.')
        check_count("patience", patience)
        if not 0.0 <= min_delta < math.inf:
            raise ValueError(f"min_delta must be at least 0 and finite; got {min_delta}.")
        self.metric, self.mode, self.patience, self.min_delta = metric, mode, patience, min_delta
        self.best: float | None = None
        self.best_step: int | None = None
        self._without = 0

    def after_evaluate(self, run: Run, metrics: Mapping[str, float]) -> None:
        if self.metric not in metrics:
            raise KeyError(
                f"EarlyStopHook waits for metric {self.metric!r}; the evaluation has {', '.join(metrics) or 'none'}."
            )
        value = float(metrics[self.metric])
        if self._improves(value):
            self.best, self.best_step, self._without = value, run.step, 0
            return
        self._without += 1
        if self._without >= self.patience:
            run.stop(self._reason())

    def _improves(self, value: float) -> bool:
        if not math.isfinite(value) or self.best is None:
            return math.isfinite(value)
        better = value - self.best if self.mode == "max" else self.best - value
        return better > 0 and better >= self.min_delta

    def _reason(self) -> str:
        if self.best is None:
            return f"{self.metric} was not finite in {self._without} evaluations"
        by = f" by {self.min_delta:g}" if self.min_delta else ""
        return (
            f"{self.metric} has not improved{by} in {self._without} evaluations; its best was {self.best:.6g} "
            f"at step {self.best_step}"
        )

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step, "without": self._without}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.best_step, self._without = state["best"], state["best_step"], int(state["without"])
