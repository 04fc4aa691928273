"""Flags of a command with a config file before them: `recis train CONFIG.yaml --lr 0.01`, and --print-config."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_type_hints

import tyro

from recis_core.cli import torchrun
from recis_core.cli.config_file import Given, Way, read_config_file
from recis_core.cli.config_text import config_text
from recis_core.cli.flags import FlagError, groups, keywords
from recis_core.cli.read_flags import read_flags

T = TypeVar("T")
PRINT = "--print-config"
NAMED = re.compile(r"--[a-z][a-z-]*")


def read_config(kind: type[T], argv: Sequence[str], command: str, unsaid: Mapping[str, Any] | None = None) -> T:
    """The config of a file, if argv begins with one, and of the flags after it, which win; --print-config prints it.

    unsaid: flags for --print-config alone, where no flag of their group is given, so that the defaults can be printed; they are
      printed as null.

    Raises:
      SystemExit: 2 where the file or flags are wrong, 0 after help or --print-config.
    """
    path, rest = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else (None, argv)
    printed, rest = PRINT in rest, [word for word in rest if word != PRINT]
    try:
        if rest and not rest[0].startswith("-"):
            raise FlagError(f"one config file goes before the flags; got {path} and {rest[0]}.")
        held = {} if path is None else read_config_file(path, kind)
    except FlagError as error:
        if torchrun.first_to_say(f"{command} {argv}"):
            print(f"{command}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    stand_in = _stand_in(kind, held, rest, unsaid or {}) if printed else {}
    default = _default(kind, {**held, **{way: Given(value, 0) for way, value in stand_in.items()}})
    config = read_flags(kind, rest, command, default, place=lambda said: _place(said, kind, path, held, rest))
    if printed:
        if torchrun.is_first():
            print(config_text(config, command, dict.fromkeys(stand_in)), end="")
        raise SystemExit(0)
    return config


def ways(kind: type) -> dict[str, Way]:
    """{keyword: (field,) or (group, field)} of all flags."""
    own: dict[str, Way] = {keyword: (name,) for name, keyword in keywords(kind).items()}
    for group, each in groups(kind).items():
        own |= {keyword: (group, name) for name, keyword in keywords(each).items()}
    return own


def _said(argv: Sequence[str]) -> list[str]:
    """Keywords of the flags in argv."""
    names = [word[2:].partition("=")[0].replace("-", "_") for word in argv if word.startswith("--")]
    return [name.removeprefix("no_") if name.startswith("no_") else name for name in names]


def _default(kind: type[T], held: Mapping[Way, Given]) -> T:
    """A config of these values that is not checked, for tyro to change by flags and to build again."""
    hints = get_type_hints(kind)
    own = {name: _default(hints[name], _inside(held, name)) for name in groups(kind)}
    values = {name: held[name,].value for name in keywords(kind) if (name,) in held}
    made = object.__new__(kind)
    for field in fields(kind):  # type: ignore[arg-type]
        usual = tyro.MISSING if field.default is MISSING else field.default
        object.__setattr__(made, field.name, {**own, **values}.get(field.name, usual))
    return made


def _inside(held: Mapping[Way, Given], group: str) -> dict[Way, Given]:
    return {way[1:]: given for way, given in held.items() if len(way) == 2 and way[0] == group}


def _stand_in(kind: type, held: Mapping[Way, Given], argv: Sequence[str], unsaid: Mapping[str, Any]) -> dict[Way, Any]:
    said = {*held, *(ways(kind)[name] for name in _said(argv) if name in ways(kind))}
    found = {ways(kind)[keyword]: value for keyword, value in unsaid.items()}
    return {} if {way[0] for way in said} & {way[0] for way in found} else found


def _place(said: str, kind: type, path: str | None, held: Mapping[Way, Given], argv: Sequence[str]) -> str:
    """The file and the line of the first flag that an error names, if the file gives it."""
    for name in NAMED.findall(said):
        keyword = name[2:].replace("-", "_")
        given = held.get(ways(kind).get(keyword, ()))
        if given is not None and keyword not in _said(argv):
            return f"{path}, line {given.line}: "
    return "" if path is None else f"{path}: "
