"""What `recis train --tensorboard DIR` writes, beside another report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from recis_core.cli.report import Display
from recis_core.framework import Logged
from recis_core.framework.training_log import TrainingLog
from recis_core.hooks.scalars import Scalars

WANTED_BY = "--tensorboard"


class TensorBoardReport:
    """Scalars by step: train/loss, train/auc, train/rows_per_s, cache/…; at the end test/auc and test/logloss.

    Raises:
      ModuleNotFoundError: tensorboard is not installed; the message says how to.
    """

    def __init__(self, inner: Display, directory: str) -> None:
        self._inner = inner
        self._scalars = Scalars(directory, wanted_by=WANTED_BY)

    @contextmanager
    def training(self, rows: int, run: TrainingLog) -> Iterator[None]:
        try:
            with self._inner.training(rows, run):
                yield
        finally:
            self._scalars.flush()

    def log(self, logged: Logged) -> None:
        self._inner.log(logged)
        self._scalars.add("train", logged.train(), logged.step)
        self._scalars.add("cache", logged.cache, logged.step)

    def evaluating(self) -> AbstractContextManager[Callable[[int], None]]:
        return self._inner.evaluating()

    def note(self, text: str) -> None:
        self._inner.note(text)

    def final(self, final: dict[str, Any]) -> None:
        self._inner.final(final)
        self._scalars.add("test", {name: final[name] for name in ("auc", "logloss")}, final["steps"])
        self._scalars.close()
