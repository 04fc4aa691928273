"""The names of `recis_core.serving`, under the path that they had first. They load when they are asked for."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(import_module("recis_core.serving"), name)


def __dir__() -> list[str]:
    return list(import_module("recis_core.serving").__all__)
