"""Commands of a command: recis data inspect, recis ckpt ls."""

from __future__ import annotations

import sys
from collections.abc import Collection


def subcommand(name: str, commands: Collection[str], usage: str, argv: list[str]) -> tuple[str, list[str]] | int:
    """The command that argv begins with, and its flags; or the exit status, where there is none to run, with usage shown."""
    command, *rest = argv or ["--help"]
    if command in ("-h", "--help"):
        print(usage)
        return 0
    if command not in commands:
        print(f"{name}: there is no command {command!r}.\n\n{usage}", file=sys.stderr)
        return 2
    return command, rest
