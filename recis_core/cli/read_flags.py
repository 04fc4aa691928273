"""argv of a command as its config: checked word by word, then read by tyro. What is wrong stands in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any, TypeVar

import tyro

from recis_core.cli import torchrun
from recis_core.cli.flag_words import check_words
from recis_core.cli.flags import FlagError

T = TypeVar("T")


def read_flags(
    kind: type[T],
    argv: Sequence[str],
    command: str,
    default: T | Any = tyro.MISSING_NONPROP,
    place: Callable[[str], str] = lambda said: "",
) -> T:
    """The config that flags say. Of ranks that torchrun started, one shows help or what is wrong.

    default: what holds where no flag says other; it may be one that `kind` itself would refuse. place: from an error's words
      to what stands before them.

    Raises:
      SystemExit: 2 where flags are wrong, 0 after help.
    """

    def read() -> T:
        return tyro.cli(kind, args=argv, prog=command, config=(tyro.conf.OmitArgPrefixes,), default=default)

    try:
        check_words(kind, argv, default)
    except FlagError as error:
        if torchrun.first_to_say(f"{command} {argv}"):
            print(f"{command}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            return read()
    except SystemExit as stop:
        if torchrun.first_to_say(f"{command} {argv}"):
            _show(stop, read, command, place)
        raise


def _show(stop: SystemExit, read: Callable[[], Any], command: str, place: Callable[[str], str]) -> None:
    """Our own errors in one line; help, and what tyro finds, as tyro shows it."""
    error: BaseException | None = stop
    while error is not None and not isinstance(error, FlagError):
        error = error.__context__
    if error is None:
        read()
    print(f"{command}: {place(str(error))}{error}", file=sys.stderr)
