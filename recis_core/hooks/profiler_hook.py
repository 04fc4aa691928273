"""Traces of chosen steps, to open in Perfetto."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Protocol

from recis_core.durable import make_directory
from recis_core.hooks.arguments import check_count
from recis_core.hooks.hook import Hook
from recis_core.hooks.ranks import failing_together
from recis_core.hooks.run import Batch, Run, StepResult
from recis_core.hooks.torch_trace import TorchTrace
from recis_core.nn import filter_out_sparse_param
from recis_core.urls import local_path

LOG = logging.getLogger(__name__)
JAX_BACKENDS = ("jax", "pallas")


class Trace(Protocol):
    def finish(self) -> Path: ...


class ProfilerHook(Hook):
    """Writes what torch did in chosen steps, and what JAX did where the model's tables are on jax or pallas.

        directory/torch-steps-10-12.json.gz      one file for each run of steps, of the first rank
        directory/jax-steps-10-12.json.gz

    Open the files at https://ui.perfetto.dev. Where JAX is traced its file has the GPU's kernels, of both. A step
    that is recorded is slower, the first one most. What was recorded when an error ends training is written too.

    files: those written so far.

    Args:
      directory: is made if it is missing. steps: which, counted from 1 over the whole run, as range(10, 13).

    Raises:
      TypeError, ValueError: steps are no counts, or there is none.
      RecisError: at a step that is to be recorded, another profiler of torch records. OSError: the directory is none.
    """

    def __init__(self, directory: str | os.PathLike[str], steps: Iterable[int] = range(10, 13)) -> None:
        self._directory, self._steps = local_path(directory, "ProfilerHook's directory"), frozenset(steps)
        if not self._steps:
            raise ValueError("steps must name at least one step, as range(10, 13); there is none.")
        for step in self._steps:
            check_count("each of steps", step)
        self.files: list[Path] = []
        self._traces: list[Trace] = []

    def before_step(self, run: Run, batch: Batch) -> None:
        step = run.step + 1
        if run.rank == 0 and not self._traces and step in self._steps:
            with failing_together(run):
                self._start(run, f"steps-{step}-{self._last(step)}.json.gz")

    def _last(self, step: int) -> int:
        """The last step of the run of steps that begins here."""
        while step + 1 in self._steps:
            step += 1
        return step

    def _start(self, run: Run, name: str) -> None:
        make_directory(self._directory)
        for kind, trace in kinds_of(run).items():
            self._traces.append(trace(self._directory / f"{kind}-{name}"))

    def after_step(self, run: Run, result: StepResult) -> None:
        if self._traces and run.step + 1 not in self._steps:
            with failing_together(run):
                self._finish()

    def end(self, run: Run) -> None:
        self._finish()

    def _finish(self) -> None:
        """Finish all traces, the last one first; raises the first error afterwards, with the others as notes."""
        errors: list[Exception] = []
        while self._traces:
            trace = self._traces.pop()
            try:
                self.files.append(trace.finish())
                LOG.info("a trace is in %s; open it at https://ui.perfetto.dev", self.files[-1])
            except Exception as error:
                errors.append(error)
        for other in errors[1:]:
            errors[0].add_note(f"Another trace failed, too: {type(other).__name__}: {other}")
        if errors:
            raise errors[0]


def kinds_of(run: Run) -> dict[str, Callable[[Path], Trace]]:
    """Which traces to record, by the names of their files."""
    backends = {table.physical.backend.name for table in filter_out_sparse_param(run.model).values()}
    if backends & set(JAX_BACKENDS):
        from recis_core.backends.jax_backend.trace import JaxTrace  # loads JAX, which these tables have loaded

        # CUDA's profiling interface serves one recorder at a time: JAX's has the device's kernels, torch's among them.
        return {"torch": partial(TorchTrace, devices=False), "jax": JaxTrace}
    return {"torch": TorchTrace}
