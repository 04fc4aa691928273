"""What `recis train --tensorboard DIR` writes, beside another report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from recis_core.cli.report import Display
from recis_core.framework import Logged, TrainLoop


class TensorBoardReport:
    """Scalars by step: train/loss, train/auc, train/rows_per_s, cache/…; at the end test/auc and test/logloss.

    Raises:
      ModuleNotFoundError: tensorboard is not installed; the message says how to.
    """

    def __init__(self, inner: Display, directory: str) -> None:
        self._inner = inner
        self._writer = summary_writer()(directory)

    @contextmanager
    def training(self, rows: int, loop: TrainLoop) -> Iterator[None]:
        try:
            with self._inner.training(rows, loop):
                yield
        finally:
            self._writer.flush()

    def log(self, logged: Logged) -> None:
        self._inner.log(logged)
        for group, scalars in (("train", logged.train()), ("cache", logged.cache)):
            for name, value in scalars.items():
                self._writer.add_scalar(f"{group}/{name}", value, logged.step)

    def evaluating(self) -> AbstractContextManager[Callable[[int], None]]:
        return self._inner.evaluating()

    def note(self, text: str) -> None:
        self._inner.note(text)

    def final(self, final: dict[str, Any]) -> None:
        self._inner.final(final)
        for name in ("auc", "logloss"):
            self._writer.add_scalar(f"test/{name}", final[name], final["steps"])
        self._writer.close()


def summary_writer() -> Any:
    """TensorBoard's class.

    Raises:
      ModuleNotFoundError: it is not installed; the message says how to.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"--tensorboard needs {error.name}, which is not installed: pip install 'recis-core[tensorboard]'."
        ) from error
    return SummaryWriter
