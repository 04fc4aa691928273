"""RecIS's logger: INFO to stdout, all else to stderr."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

FORM = "[%(asctime)s] [%(levelname)s] [%(name)s] %(message)s"


class SingleLevelFilter(logging.Filter):
    """Lets records of one level pass, or all others if `reject`."""

    def __init__(self, passlevel: int, reject: bool) -> None:
        super().__init__()
        self.passlevel, self.reject = passlevel, reject

    def filter(self, record: logging.LogRecord) -> bool:
        return (record.levelno == self.passlevel) is not self.reject


class Logger:
    """A logging.Logger of that name. Loggers of one name share handlers, so that a line is written once."""

    def __init__(self, name: str = __file__, level: int = logging.DEBUG) -> None:
        self._logger = logging.getLogger(name)
        self._logger.setLevel(level)
        self._logger.propagate = False
        if not self._logger.handlers:
            self._logger.addHandler(_handler("stdout", reject=False))
            self._logger.addHandler(_handler("stderr", reject=True))

    def info(self, *args: Any, **kwargs: Any) -> None:
        self._logger.info(*args, **kwargs)

    def warning(self, *args: Any, **kwargs: Any) -> None:
        self._logger.warning(*args, **kwargs)

    def error(self, *args: Any, **kwargs: Any) -> None:
        self._logger.error(*args, **kwargs)

    def info_rank0(self, *args: Any, **kwargs: Any) -> None:
        if _first():
            self.info(*args, **kwargs)

    def warning_rank0(self, *args: Any, **kwargs: Any) -> None:
        if _first():
            self.warning(*args, **kwargs)

    def error_rank0(self, *args: Any, **kwargs: Any) -> None:
        if _first():
            self.error(*args, **kwargs)


class _Stream(logging.StreamHandler[Any]):
    """Writes to what sys.stdout or sys.stderr is now; tests and notebooks replace them."""

    def __init__(self, name: str) -> None:
        self._name_of_stream = name
        super().__init__()

    @property
    def stream(self) -> Any:
        return getattr(sys, self._name_of_stream)

    @stream.setter
    def stream(self, stream: Any) -> None:
        pass


def _handler(stream: str, *, reject: bool) -> logging.Handler:
    handler = _Stream(stream)
    handler.addFilter(SingleLevelFilter(logging.INFO, reject))
    handler.setFormatter(logging.Formatter(FORM))
    return handler


def _first() -> bool:
    return os.environ.get("RANK", "0") == "0"
