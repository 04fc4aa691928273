"""What a TrainingLog tells: sums over steps, and their wall time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recis_core.backends.compiling import compiling_seconds
from recis_core.hooks import StepResult


@dataclass(frozen=True)
class Logged:
    """What happened since the last log: mean loss and AUC of predictions made before each update.

    auc: NaN where there is none; auc_note then says why.
    rows_per_s: rows of all ranks by seconds of wall time since the last log, reader included.
    compiling: the share of that time in which this rank compiled loops or programs.
    cache: of tables that have one, hit_rate: ids whose row was on the device, as a share; stalled: seconds waited for a
    Prefetcher, as a share of all; and counts, as in CacheStats. Of this rank alone.
    """

    step: int
    loss: float
    auc: float
    rows_per_s: float
    cache: dict[str, float] = field(default_factory=dict)
    auc_note: str | None = None
    compiling: float = 0.0

    def train(self) -> dict[str, float]:
        """What reports and TensorBoard show by step, beside `cache`."""
        return {"loss": self.loss, "auc": self.auc, "rows_per_s": self.rows_per_s}


class WallClock:
    """Time of training in this process up to the end of the last step, time between steps included.

    seconds: wall time. compiling: how much of it this rank compiled loops or programs.
    """

    def __init__(self) -> None:
        self.seconds = self.compiling = 0.0
        self._mark: tuple[float, float] | None = None

    def run(self) -> None:
        """Count from now on, unless the clock runs already."""
        self._mark = _now() if self._mark is None else self._mark

    def read(self) -> None:
        """Bring it up to now."""
        now = _now()
        if self._mark is not None:
            self.seconds += now[0] - self._mark[0]
            self.compiling += now[1] - self._mark[1]
        self._mark = now

    def pause(self) -> None:
        """Leave out the time until run() is called again."""
        self._mark = None


def _now() -> tuple[float, float]:
    return time.perf_counter(), compiling_seconds()


class LogWindow:
    """Sums over the steps since the last log; rates are of this process's steps, by this clock."""

    def __init__(self, clock: WallClock) -> None:
        self._clock, self._since = clock, (clock.seconds, clock.compiling)
        self.steps, self._rows, self._loss = 0, 0, 0.0

    def add(self, result: StepResult) -> None:
        self.steps, self._rows, self._loss = self.steps + 1, self._rows + result.rows, self._loss + result.loss

    def logged(self, step: int, auc: float, note: str | None, cache: dict[str, float]) -> Logged:
        seconds = max(self._clock.seconds - self._since[0], 1e-9)
        compiling = min(1.0, (self._clock.compiling - self._since[1]) / seconds)
        return Logged(step, self._loss / self.steps, auc, self._rows / seconds, cache, note, compiling)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "loss": self._loss}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps, self._loss = int(state["steps"]), float(state["loss"])
