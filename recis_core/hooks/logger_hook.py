"""Steps and evaluations as lines of Python's logging."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from recis_core.hooks.progress_line import GAP, evaluation_line, step_line
from recis_core.hooks.run import Run
from recis_core.hooks.step_log import StepLog
from recis_core.hooks.step_sums import LoggedSteps

LOG = logging.getLogger(__name__)


class LoggerHook(StepLog):
    """Logs, at INFO, the step, losses, metrics and rows/s after every `every` steps, and each evaluation.

    Python shows INFO after logging.basicConfig(level=logging.INFO), or under a ProgressHook. See StepLog for the means.
    """

    def tell(self, run: Run, logged: LoggedSteps) -> None:
        LOG.info("%s", step_line(logged))

    def tell_evaluation(self, run: Run, metrics: Mapping[str, float]) -> None:
        LOG.info("%s%s", f"step {run.step}{GAP}", evaluation_line(metrics))
