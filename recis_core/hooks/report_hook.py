"""What a run took, in a table at its end."""

from __future__ import annotations

import math
import time
from typing import Any

from rich.console import Console

from recis_core.features import FeatureEngine
from recis_core.hooks.hook import Hook
from recis_core.hooks.module_clock import ModuleClock
from recis_core.hooks.run import Batch, Run
from recis_core.hooks.run_report import RunReport, phases_of
from recis_core.hooks.step_flops import StepFlops
from recis_core.hooks.training_clock import BESIDE
from recis_core.nn import EmbeddingEngine, HashTable

KINDS = {"features": (FeatureEngine,), "lookup": (EmbeddingEngine, HashTable)}


class ReportHook(Hook):
    """Rows/s, time by phase, and how much of the hardware's peak the dense side used.

    Phases: reading, features, lookup, dense forward, backward, exchange, update, hooks; and evaluating, saving. "features"
    and "lookup" are time in FeatureEngines, EmbeddingEngines and HashTables of the model; a FeatureEngine that a reader
    calls belongs to reading. Phases are the host's wall time: on a GPU a phase that waits for the device has what earlier
    ones started.

    report: after training, a RunReport; report.numbers() has all as a dict. On all ranks; each has its own phases. A loop
    that calls steps alone calls before_train(run), after_train(run) and end(run) itself.

    Args:
      peak_flops: floating point operations by second that one rank's device can do, for the utilisation; None: there is
        none in the report. show: whether the first rank shows the table when training has ended. console: where to; None
        is standard output.

    Raises:
      ValueError: peak_flops is not a positive number.
    """

    def __init__(self, *, peak_flops: float | None = None, show: bool = True, console: Console | None = None) -> None:
        if peak_flops is not None and not 0 < peak_flops < math.inf:
            raise ValueError(f"peak_flops must be positive and finite, as 989e12 of an H200 in bf16; got {peak_flops}.")
        self.peak_flops, self.show, self.report = peak_flops, show, None  # type: float | None, bool, RunReport | None
        self._console, self._modules = console, None  # type: Console | None, ModuleClock | None
        self._flops = StepFlops()

    def before_train(self, run: Run) -> None:
        self.report, self._flops = None, StepFlops()
        self._modules = ModuleClock(run.model, KINDS)
        self._began = time.perf_counter(), run.step, run.rows, dict(run.phases)

    def before_step(self, run: Run, batch: Batch) -> None:
        if self._modules is not None:
            self._flops.begin()
            self._modules.new_step()

    def after_backward(self, run: Run) -> None:
        self._flops.end()

    def after_train(self, run: Run) -> None:
        if self._modules is not None:
            self.report = self._made(run, self._modules.seconds)

    def _made(self, run: Run, modules: dict[str, float]) -> RunReport:
        at, step, rows, phases = self._began
        wall = time.perf_counter() - at
        taken = {name: seconds - phases.get(name, 0.0) for name, seconds in run.phases.items()}
        training = wall - sum(taken.get(phase, 0.0) for phase in BESIDE)
        return RunReport(
            run.step - step, run.rows - rows, training, phases_of(taken, modules, wall),
            self._flops.flops, self.peak_flops,
        )  # fmt: skip

    def end(self, run: Run) -> None:
        """Shows the table here, where no bar of other hooks is open any longer."""
        self._flops.end()
        modules, self._modules = self._modules, None
        if modules is not None:
            modules.close()
        if self.show and self.report is not None and run.rank == 0:
            self.report.show(self._console or Console())

    def numbers(self) -> dict[str, Any]:
        """The report by name; {} before training has ended."""
        return {} if self.report is None else self.report.numbers()
