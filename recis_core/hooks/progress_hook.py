"""Progress on a terminal, or in plain lines."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial

from rich.console import Console

from recis_core.hooks.progress_line import GAP, evaluation_line, step_line, step_parts
from recis_core.hooks.run import Run
from recis_core.hooks.screen import TrainingBar, moves_a_cursor, note, shown_log
from recis_core.hooks.step_log import StepLog
from recis_core.hooks.step_sums import LoggedSteps


class ProgressHook(StepLog):
    """A bar with step, losses, metrics, rows/s and time left; evaluations, and recis_core's log from INFO on, above it.

    Plain lines where the console is no terminal. The time left is known where run.max_steps is.

    Args:
      every: steps between refreshes, or between plain lines. console: where to; None is standard output.
    """

    def __init__(self, every: int = 10, *, console: Console | None = None) -> None:
        super().__init__(every)
        self._console = console
        self._bar: TrainingBar | None = None
        self._open = ExitStack()

    def begin(self, run: Run) -> None:
        if run.rank == 0:
            self._console = self._console or Console()
            if moves_a_cursor(self._console):
                self._bar = self._open.enter_context(TrainingBar(self._console, run.max_steps, run.step))
            self._open.enter_context(shown_log(partial(note, self._console)))

    def tell(self, run: Run, logged: LoggedSteps) -> None:
        if self._bar is None:
            self._note(step_line(logged))
        else:
            self._bar.show(logged.step, step_parts(logged, run.max_steps))

    def tell_evaluation(self, run: Run, metrics: Mapping[str, float]) -> None:
        self._note(f"step {run.step}{GAP}{evaluation_line(metrics)}")

    def _note(self, text: str) -> None:
        if self._console is not None:
            note(self._console, text)

    def after_train(self, run: Run) -> None:
        super().after_train(run)
        self.close()

    def close(self) -> None:
        self._bar = None
        self._open.close()
