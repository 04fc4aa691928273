"""Steps and evaluations as TensorBoard's scalars."""

from __future__ import annotations

import os
from collections.abc import Mapping

from recis_core.hooks.ranks import failing_together
from recis_core.hooks.run import Run
from recis_core.hooks.scalars import Scalars, summary_writer
from recis_core.hooks.step_log import StepLog
from recis_core.hooks.step_sums import LoggedSteps


class TensorBoardHook(StepLog):
    """Writes train/loss, train/<metric> and train/rows_per_s after every `every` steps, and evaluate/<metric>.

    See StepLog for the means. A resumed run hides what an earlier one wrote of later steps.

    Raises:
      ModuleNotFoundError: tensorboard is not installed; the message says how to.
    """

    def __init__(self, directory: str | os.PathLike[str], every: int = 10) -> None:
        super().__init__(every)
        summary_writer(type(self).__name__)
        self._directory = os.fspath(directory)
        self._scalars: Scalars | None = None

    def begin(self, run: Run) -> None:
        if run.rank == 0:
            with failing_together(run):
                purge = run.step + 1 if run.step else None
                self._scalars = Scalars(self._directory, wanted_by=type(self).__name__, purge_step=purge)

    def tell(self, run: Run, logged: LoggedSteps) -> None:
        self._add("train", logged.scalars(), logged.step)

    def tell_evaluation(self, run: Run, metrics: Mapping[str, float]) -> None:
        self._add("evaluate", metrics, run.step)

    def _add(self, group: str, numbers: Mapping[str, float], step: int) -> None:
        if self._scalars is not None:
            self._scalars.add(group, numbers, step)

    def close(self) -> None:
        scalars, self._scalars = self._scalars, None
        if scalars is not None:
            scalars.close()
