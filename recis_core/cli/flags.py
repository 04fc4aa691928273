"""Errors of what a command takes, in its flags' names."""

from __future__ import annotations

import functools
from typing import Any, TypeVar

from pydantic import ValidationError

T = TypeVar("T")


def flag(name: str) -> str:
    """Of a field."""
    return f"--{name.replace('_', '-')}"


def plain_errors(config: type[T]) -> type[T]:
    """A pydantic dataclass whose errors say what is wanted, and nothing of pydantic: ValueErrors of one line a mistake."""
    made = config.__init__

    @functools.wraps(made)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            made(self, *args, **kwargs)
        except ValidationError as error:
            raise ValueError("\n".join(map(_said, error.errors()))) from None

    config.__init__ = init  # type: ignore[method-assign]
    return config


def _said(error: Any) -> str:
    """One of pydantic's: of a check of our own its words, of a field the flag, what was wanted, and what came."""
    if not error["loc"]:
        return str(error.get("ctx", {}).get("error", error["msg"]))
    wanted = error["msg"].removeprefix("Input ").removesuffix(".")
    return f"{flag(str(error['loc'][0]))} {wanted}; got {error['input']!r}."
