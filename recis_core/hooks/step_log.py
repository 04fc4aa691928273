"""The base of hooks that tell of steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recis_core.hooks.arguments import check_count
from recis_core.hooks.hook import Hook
from recis_core.hooks.ranks import failing_together
from recis_core.hooks.run import Batch, Run, StepResult
from recis_core.hooks.step_sums import LoggedSteps, StepSums
from recis_core.hooks.training_clock import TrainingClock


class StepLog(Hook):
    """Calls `tell` on the first rank: after every `every` steps, and when training ends for the steps that are left.

    Means are sums over the steps since the last line. A checkpoint keeps the sums, so that a resumed run tells the same
    numbers as an undisturbed one, rates by time excepted. Steps that were told at the end of training stay in the sums:
    a run that goes on tells of them again, in a line of `every` steps.

    Raises:
      TypeError, ValueError: every is no count.
    """

    def __init__(self, every: int = 10) -> None:
        check_count("every", every)
        self.every = every
        self._sums = StepSums()
        self._clock: TrainingClock | None = None

    def tell(self, run: Run, logged: LoggedSteps) -> None:
        """Show these steps. On the first rank."""

    def tell_evaluation(self, run: Run, metrics: Mapping[str, float]) -> None:
        """Show an evaluation's metrics. On the first rank."""

    def begin(self, run: Run) -> None:
        """Open what `tell` needs. On all ranks; before training, or before the first step of a loop without before_train."""

    def before_train(self, run: Run) -> None:
        self.end(run)
        self._clock = TrainingClock(run)
        self.begin(run)

    def before_step(self, run: Run, batch: Batch) -> None:
        if self._clock is None:
            self.before_train(run)

    def before_evaluate(self, run: Run) -> None:
        if self._clock is None:
            self.before_train(run)

    def after_step(self, run: Run, result: StepResult) -> None:
        self._sums.add(result)
        if run.step % self.every == 0:
            sums, self._sums = self._sums, StepSums()
            self._tell(run, sums, partial=False)

    def after_train(self, run: Run) -> None:
        if self._sums.steps:
            self._tell(run, self._sums, partial=True)

    def after_evaluate(self, run: Run, metrics: Mapping[str, float]) -> None:
        if run.rank == 0:
            with failing_together(run):
                self.tell_evaluation(run, metrics)

    def _tell(self, run: Run, sums: StepSums, *, partial: bool) -> None:
        if run.rank == 0:
            rates = (0.0, 0.0) if self._clock is None else self._clock.lap(run)
            with failing_together(run):
                self.tell(
                    run, LoggedSteps(run.step, sums.steps, run.rows, sums.losses(), sums.metrics, *rates, partial)
                )

    def close(self) -> None:
        """Close what `begin` has opened, if it was called."""

    def end(self, run: Run) -> None:
        self._clock = None
        self.close()

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self._sums.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._sums.load_state_dict(state["sums"])
