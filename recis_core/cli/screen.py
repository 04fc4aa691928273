"""What `recis train` shows on a terminal: a progress bar, notes above it, and the result."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID, TextColumn

from recis_core.cli.progress_text import final_lines, progress_parts
from recis_core.cli.report import Display, PlainReport
from recis_core.framework import Logged
from recis_core.framework.training_log import TrainingLog
from recis_core.hooks.progress_line import clock
from recis_core.hooks.screen import TrainingBar, moves_a_cursor, note, shown_log


def text_report(console: Console | None = None) -> Display:
    """A bar where standard output moves a cursor, plain lines elsewhere."""
    console = console or Console()
    return ScreenReport(console) if moves_a_cursor(console) else PlainReport()


@contextmanager
def rows_shown(what: str, shown: bool) -> Iterator[Callable[[int], None]]:
    """Gives a function to call with the rows so far, which are shown on standard error: standard output has the result."""
    if not shown:
        yield lambda rows: None
        return
    console = Console(stderr=True)
    report = ScreenReport(console) if moves_a_cursor(console) else PlainReport(sys.stderr)
    with report.reading(what) as show_rows:
        yield show_rows


class ScreenReport:
    """rows/s, loss, AUC and time left beside the bar at 80 columns; rows, and what the cache does, where there is room."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def training(self, rows: int, run: TrainingLog) -> Iterator[None]:
        self._rows, self._run, self._no_auc = rows, run, False
        self._bar = TrainingBar(self._console, rows, run.rows)
        run.begin()
        with self._bar, shown_log(self.note):
            yield

    def log(self, logged: Logged) -> None:
        done = self._run.rows
        self._bar.show(done, progress_parts(logged, done, self._rows, self._run.seconds))
        if logged.auc_note and not self._no_auc:
            self._no_auc = True
            self.note(f"AUC is nan at step {logged.step}: {logged.auc_note}")

    def evaluating(self) -> AbstractContextManager[Callable[[int], None]]:
        return self.reading("evaluating")

    @contextmanager
    def reading(self, what: str) -> Iterator[Callable[[int], None]]:
        """Gives a function to call with the rows so far; the line is removed at the end."""
        start = time.monotonic()
        bar = Progress(TextColumn(what + "  {task.fields[said]}"), console=self._console, transient=True)
        task: TaskID = bar.add_task("", total=None, said="")
        with bar, shown_log(self.note):
            yield lambda rows: bar.update(task, said=f"{rows:,} rows after {clock(time.monotonic() - start)}")

    def note(self, text: str) -> None:
        note(self._console, text)

    def final(self, final: dict[str, Any]) -> None:
        for line in final_lines(final):
            self.note(line)
