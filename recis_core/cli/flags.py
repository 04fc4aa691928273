"""Errors of what a command takes, in its flags' names."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any, TypeVar

import tyro
from pydantic import ValidationError

from recis_core.cli import torchrun

T = TypeVar("T")


def flag(name: str) -> str:
    """Of a field."""
    return f"--{name.replace('_', '-')}"


def read_flags(kind: type[T], argv: Sequence[str], command: str) -> T:
    """The config that flags say. Of ranks that torchrun started, one shows help or what is wrong.

    Raises:
      SystemExit: 2 where flags are wrong, 0 after help.
    """
    if not torchrun.launched():
        return tyro.cli(kind, args=argv, prog=command)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # console_outputs=False shows some errors still
            return tyro.cli(kind, args=argv, prog=command)
    except SystemExit:
        if torchrun.first_to_say(f"{command} {argv}"):
            tyro.cli(kind, args=argv, prog=command)
        raise


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
