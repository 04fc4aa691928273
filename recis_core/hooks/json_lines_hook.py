"""Steps and evaluations as lines of JSON."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from recis_core.durable import make_directory
from recis_core.hooks.line_file import Line, LineFile, keep_lines, lines_in
from recis_core.hooks.ranks import failing_together
from recis_core.hooks.run import Run, StepResult
from recis_core.hooks.step_log import StepLog
from recis_core.hooks.step_sums import LoggedSteps
from recis_core.urls import local_path

PARTIAL = "partial"  # marks the line of fewer steps than `every` at the end of training


class JsonLinesHook(StepLog):
    """Appends one JSON object a line to a file: losses, metrics and rows/s after every `every` steps, and evaluations.

        {"step": 20, "rows": 1280, "train": {"loss": 0.61, "auc": 0.71, "rows_per_s": 52300.1}}
        {"step": 20, "rows": 1280, "evaluate": {"auc": 0.70}}

    See StepLog for the means. null stands for nan and infinity. A killed run leaves whole lines. A resumed run first cuts
    lines that came after its checkpoint, so that none is repeated; a line of "partial" steps, which an ended run wrote, is
    cut too, for the sums go on.

    Args:
      overwrite: whether a run that begins at step 0 may replace the lines of another one.

    Raises:
      FileExistsError: a run begins at step 0, the file has lines, and overwrite is not given.
      ValueError: the file holds other things than such lines. Nothing was changed.
    """

    def __init__(self, path: str | os.PathLike[str], every: int = 10, *, overwrite: bool = False) -> None:
        super().__init__(every)
        self._path, self._overwrite = local_path(path, "JsonLinesHook's file"), overwrite
        self._file: LineFile | None = None
        self._at: tuple[int, int] | None = None  # step of the last line, and how many lines are of that step

    def begin(self, run: Run) -> None:
        if run.rank == 0:
            with failing_together(run):
                self._file = self._opened(run.step)

    def _opened(self, step: int) -> LineFile:
        make_directory(self._path.parent)
        if self._path.is_file():
            if step == 0 and self._at is None:
                self._require_free()
            keep_lines(self._path, _up_to_line(*(self._at or (step, None if step else 0))))
        return LineFile(self._path)

    def _require_free(self) -> None:
        if not self._overwrite and any(True for _ in lines_in(self._path)):
            raise FileExistsError(
                f"{self._path} holds the lines of a run, and this one begins at step 0. Resume that run, name another "
                "file, or give overwrite=True."
            )

    def tell(self, run: Run, logged: LoggedSteps) -> None:
        line: Line = {"step": logged.step, "rows": logged.rows, "train": logged.scalars()}
        self._write(line | {PARTIAL: True} if logged.partial else line)

    def tell_evaluation(self, run: Run, metrics: Mapping[str, float]) -> None:
        self._write({"step": run.step, "rows": run.rows, "evaluate": dict(metrics)})

    def _write(self, line: Line) -> None:
        if self._file is not None:
            self._file.write(line)

    def after_step(self, run: Run, result: StepResult) -> None:
        super().after_step(run, result)
        if run.step % self.every == 0:
            self._count(run.step)

    def after_evaluate(self, run: Run, metrics: Mapping[str, float]) -> None:
        super().after_evaluate(run, metrics)
        self._count(run.step)

    def _count(self, step: int) -> None:
        """Another line is of this step; on all ranks, whose states are equal."""
        before = self._at or (step, 0)
        self._at = (step, before[1] + 1 if before[0] == step else 1)

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def state_dict(self) -> dict[str, Any]:
        step, lines = self._at or (0, 0)
        return super().state_dict() | {"last_step": step, "lines": lines}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._at = int(state["last_step"]), int(state["lines"])


def _up_to_line(step: int, lines: int | None) -> Callable[[Line], bool]:
    """Lines of earlier steps, and so many of this one; None: all of them."""
    seen = 0

    def kept(line: Line) -> bool:
        nonlocal seen
        if PARTIAL in line or line["step"] > step:
            return False
        seen += line["step"] == step
        return line["step"] < step or lines is None or seen <= lines

    return kept
