"""What `recis train` shows without a terminal: plain lines, JSON lines, or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TextIO, runtime_checkable

from recis_core.cli.progress_text import final_lines, step_line
from recis_core.framework import Logged
from recis_core.framework.training_log import TrainingLog
from recis_core.hooks.json_line import json_line
from recis_core.hooks.screen import shown_log

EVERY = 5.0  # seconds between lines of an evaluation


class Report(Protocol):
    """Takes logged steps and the result from train()."""

    def training(self, rows: int, run: TrainingLog) -> AbstractContextManager[None]:
        """Inside, the run of this log trains until it has seen `rows` in all, those of resumed runs included."""
        ...

    def log(self, logged: Logged) -> None: ...

    def final(self, final: dict[str, Any]) -> None: ...


@runtime_checkable
class Display(Report, Protocol):
    """A report that also shows the evaluation, and notes."""

    def evaluating(self) -> AbstractContextManager[Callable[[int], None]]:
        """Gives a function to call with the rows evaluated so far."""
        ...

    def note(self, text: str) -> None:
        """Show a line, for instance that something compiles."""
        ...


class SilentReport:
    """Of all ranks but the first."""

    @contextmanager
    def training(self, rows: int, run: TrainingLog) -> Iterator[None]:
        run.begin()
        yield

    def log(self, logged: Logged) -> None: ...

    @contextmanager
    def evaluating(self) -> Iterator[Callable[[int], None]]:
        yield lambda rows: None

    def note(self, text: str) -> None: ...

    def final(self, final: dict[str, Any]) -> None: ...


class Only(SilentReport):
    """Passes logged steps and the result on, and shows nothing else."""

    def __init__(self, report: Report) -> None:
        vars(self).update(training=report.training, log=report.log, final=report.final)


def display(report: Report) -> Display:
    return report if isinstance(report, Display) else Only(report)


class JsonReport(SilentReport):
    """One object a line, with the numbers that TensorBoard gets; no notes."""

    def log(self, logged: Logged) -> None:
        line: dict[str, Any] = {"step": logged.step, **logged.train()}
        line |= {"auc_note": logged.auc_note} if logged.auc_note else {}
        line |= {"cache": logged.cache} if logged.cache else {}
        print(json_line(line), flush=True)

    def final(self, final: dict[str, Any]) -> None:
        print(json_line(final), flush=True)


class PlainReport(SilentReport):
    """A line a log interval, and the result in words; no control characters.

    file: where to; None is standard output.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file

    @contextmanager
    def training(self, rows: int, run: TrainingLog) -> Iterator[None]:
        self._rows, self._run, self._no_auc = rows, run, False
        self.note(f"training: {rows - run.rows:,} rows")
        with super().training(rows, run), shown_log(self.note):
            yield

    def log(self, logged: Logged) -> None:
        self.note(step_line(logged, self._run.rows, self._rows))
        if logged.auc_note and not self._no_auc:
            self._no_auc = True
            self.note(f"AUC is nan at step {logged.step}: {logged.auc_note}")

    @contextmanager
    def evaluating(self) -> Iterator[Callable[[int], None]]:
        self.note("evaluating")
        with self.reading("evaluating") as show_rows:
            yield show_rows

    @contextmanager
    def reading(self, what: str) -> Iterator[Callable[[int], None]]:
        """Gives a function to call with the rows so far; prints a line every EVERY seconds."""
        shown = time.monotonic()

        def show_rows(rows: int) -> None:
            nonlocal shown
            if time.monotonic() - shown > EVERY:
                shown = time.monotonic()
                self.note(f"{what}: {rows:,} rows so far")

        with shown_log(self.note):
            yield show_rows

    def note(self, text: str) -> None:
        print(text, file=self._file, flush=True)

    def final(self, final: dict[str, Any]) -> None:
        for line in final_lines(final):
            self.note(line)


def counted(batches: Iterable[dict[str, Any]], show_rows: Callable[[int], None]) -> Iterator[dict[str, Any]]:
    """The batches; calls `show_rows` with the rows so far after each of them."""
    rows = 0
    for batch in batches:
        yield batch
        show_rows(rows := rows + len(batch["label"]))
