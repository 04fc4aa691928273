"""Progress on a terminal: a bar, and notes above it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from recis_core.hooks.progress_line import Part, fitted

BAR = 10  # columns that the bar keeps
HEAD = "training"


def moves_a_cursor(console: Console) -> bool:
    return console.is_terminal and not console.is_dumb_terminal


def note(console: Console, text: str) -> None:
    """Show a line as it is."""
    console.print(text, highlight=False, markup=False)


class TrainingBar:
    """A bar with words beside it, as many as fit. total: None where the end is unknown."""

    def __init__(self, console: Console, total: int | None, done: int) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn(HEAD), BarColumn(bar_width=None), TextColumn("{task.fields[said]}"), console=console, expand=True
        )
        self._task = self._bar.add_task("", total=total, completed=done, said="first steps")

    def show(self, done: int, parts: list[Part]) -> None:
        room = self._console.width - len(HEAD) - BAR - 2
        self._bar.update(self._task, completed=done, said=fitted(parts, room))

    def __enter__(self) -> TrainingBar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


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
