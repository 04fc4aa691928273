"""Evaluations in between."""

from __future__ import annotations

from recis_core.hooks.periodic_hook import PeriodicHook
from recis_core.hooks.run import Run


class EvaluateHook(PeriodicHook):
    """Evaluates the run after every so many steps, epochs or windows, and at the end of training.

    Other hooks get the metrics by after_evaluate. Arguments and errors are those of PeriodicHook.
    """

    def act(self, run: Run) -> None:
        run.evaluate()
