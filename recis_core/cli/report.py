"""What `recis train` shows where no terminal is: plain lines, JSON lines, or nothing."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TextIO, runtime_checkable

from recis_core.cli.progress_text import final_lines, step_line
from recis_core.framework import Logged, TrainLoop

EVERY = 5.0  # seconds between lines of an evaluation


class Report(Protocol):
    """What train() needs: it hears of logged steps and of the end."""

    def training(self, rows: int, loop: TrainLoop) -> AbstractContextManager[None]:
        """While it lasts, `loop` trains until it has seen `rows` in all, earlier runs' included."""
        ...

    def log(self, logged: Logged) -> None: ...

    def final(self, final: dict[str, Any]) -> None: ...


@runtime_checkable
class Display(Report, Protocol):
    """A report that also shows what goes on beside training."""

    def evaluating(self) -> AbstractContextManager[Callable[[int], None]]:
        """Gives what is to be told the rows evaluated so far."""
        ...

    def note(self, text: str) -> None:
        """A line of its own, as that something compiles."""
        ...


class SilentReport:
    """Of all ranks but the first."""

    @contextmanager
    def training(self, rows: int, loop: TrainLoop) -> Iterator[None]:
        loop.begin()
        yield

    def log(self, logged: Logged) -> None: ...

    @contextmanager
    def evaluating(self) -> Iterator[Callable[[int], None]]:
        yield lambda rows: None

    def note(self, text: str) -> None: ...

    def final(self, final: dict[str, Any]) -> None: ...


class Only(SilentReport):
    """A report that hears of logged steps and of the end alone."""

    def __init__(self, report: Report) -> None:
        vars(self).update(training=report.training, log=report.log, final=report.final)


def display(report: Report) -> Display:
    return report if isinstance(report, Display) else Only(report)


class JsonReport(SilentReport):
    """One object a line, of what TensorBoard gets; notes are for people and left out."""

    def log(self, logged: Logged) -> None:
        line: dict[str, Any] = {"step": logged.step, **logged.train()}
        line |= {"auc_note": logged.auc_note} if logged.auc_note else {}
        line |= {"cache": logged.cache} if logged.cache else {}
        print(_json(line), flush=True)

    def final(self, final: dict[str, Any]) -> None:
        print(_json(final), flush=True)


class PlainReport(SilentReport):
    """A line a log interval, and the result in words; no control characters.

    file: where to; None is standard output.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file

    @contextmanager
    def training(self, rows: int, loop: TrainLoop) -> Iterator[None]:
        self._rows, self._loop, self._no_auc = rows, loop, False
        self.note(f"training: {rows - loop.rows:,} rows")
        with super().training(rows, loop), shown_log(self.note):
            yield

    def log(self, logged: Logged) -> None:
        self.note(step_line(logged, self._loop.rows, self._rows))
        if logged.auc_note and not self._no_auc:
            self._no_auc = True
            self.note(f"AUC is nan at step {logged.step}: {logged.auc_note}")

    @contextmanager
    def evaluating(self) -> Iterator[Callable[[int], None]]:
        self.note("evaluating")
        with self.reading("evaluating") as told:
            yield told

    @contextmanager
    def reading(self, what: str) -> Iterator[Callable[[int], None]]:
        """Gives what is to be told rows so far; a line every few seconds, from the first few on."""
        said = time.monotonic()

        def told(rows: int) -> None:
            nonlocal said
            if time.monotonic() - said > EVERY:
                said = time.monotonic()
                self.note(f"{what}: {rows:,} rows so far")

        with shown_log(self.note):
            yield told

    def note(self, text: str) -> None:
        print(text, file=self._file, flush=True)

    def final(self, final: dict[str, Any]) -> None:
        for line in final_lines(final):
            self.note(line)


@contextmanager
def shown_log(note: Callable[[str], None]) -> Iterator[None]:
    """Messages of recis_core's loggers, from INFO on, as notes."""

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            note(record.getMessage())

    logger, handler = logging.getLogger("recis_core"), Notes(logging.INFO)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(min(logger.getEffectiveLevel(), logging.INFO))
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def counted(batches: Iterable[dict[str, Any]], told: Callable[[int], None]) -> Iterator[dict[str, Any]]:
    """The batches; `told` hears of the rows so far, each batch's when the next one is asked for."""
    rows = 0
    for batch in batches:
        yield batch
        told(rows := rows + len(batch["label"]))


def _json(value: Any) -> str:
    """JSON knows no nan and no infinity: null stands for them."""
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
