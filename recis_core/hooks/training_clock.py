"""Wall time of training."""

from __future__ import annotations

import time

from recis_core.hooks.run import Run

BESIDE = ("evaluating", "saving")  # phases that are no training


class TrainingClock:
    """Seconds and rows since the last reading, without the phases BESIDE."""

    def __init__(self, run: Run) -> None:
        self._at, self._rows, self._step = _now(run), run.rows, run.step

    def lap(self, run: Run) -> tuple[float, float]:
        """(rows/s, steps/s) since the last lap, in this process; 0 where no time has passed."""
        now, rows, steps = _now(run), run.rows - self._rows, run.step - self._step
        seconds, self._at, self._rows, self._step = now - self._at, now, run.rows, run.step
        return (rows / seconds, steps / seconds) if seconds > 0 else (0.0, 0.0)


def _now(run: Run) -> float:
    return time.perf_counter() - sum(run.phases.get(phase, 0.0) for phase in BESIDE)
