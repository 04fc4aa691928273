"""Flags of a command as a dataclass, which read_flags.py makes of argv. Errors name the flag, what it takes, what came.

Fields may be groups: dataclasses, each beside the part that it configures. On the command line their flags have flat
names: `CheckpointFlags.every`, declared as `named("save_every")`, is --save-every.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, get_type_hints

import tyro
from pydantic import ValidationError

T = TypeVar("T")


class FlagError(ValueError):
    """A flag's value is wrong, or two flags contradict each other. The message names them."""


def flag(name: str) -> str:
    """Of a keyword: save_every is --save-every."""
    return f"--{name.replace('_', '-')}"


def named(keyword: str) -> Any:
    """Annotates a field whose flag has another name than the field."""
    return tyro.conf.arg(name=keyword)


Named = type(named(""))


def keywords(kind: type) -> dict[str, str]:
    """{field: its flag as a keyword} of one dataclass, without its groups."""
    hints = get_type_hints(kind, include_extras=True)
    given = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    return {
        field.name: next((str(mark.name) for mark in given[field.name] if isinstance(mark, Named)), field.name)
        for field in fields(kind)
        if not is_dataclass(hints[field.name])
    }


def groups(kind: type) -> dict[str, type]:
    """{field: its dataclass} of a config's groups."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind) if is_dataclass(hints[field.name])}


def by_flag(config: Any) -> dict[str, Any]:
    """{keyword: value} of all flags, those of groups too: plain values, as a saved state holds them."""
    own = {keyword: getattr(config, name) for name, keyword in keywords(type(config)).items()}
    return functools.reduce(lambda all, name: all | by_flag(getattr(config, name)), groups(type(config)), own)


def takes_flags(config: type[T]) -> type[T]:
    """A config of groups that takes flags as keywords, too: TrainConfig(dim=8) is TrainConfig(model=ModelFlags(dim=8)).

    A keyword whose value is a group's is that group, any other a flag. A flag beside its group replaces the group's value.
    """
    made = config.__init__

    @functools.wraps(made)
    def init(self: Any, **given: Any) -> None:
        parts = {name: given.pop(name) for name, kind in groups(config).items() if isinstance(given.get(name), kind)}
        for name, kind in groups(config).items():
            own = {field: given.pop(keyword) for field, keyword in keywords(kind).items() if keyword in given}
            parts[name] = replace(parts[name], **own) if name in parts else kind(**own)
        unknown = given.keys() - keywords(config).keys()
        if unknown:
            raise TypeError(f"there is no flag {', '.join(map(flag, sorted(unknown)))}.")
        made(self, **parts, **given)

    config.__init__ = init  # type: ignore[method-assign]
    return config


def plain_errors(config: type[T]) -> type[T]:
    """A pydantic dataclass whose errors say what is wanted, and nothing of pydantic: FlagErrors of one line a mistake."""
    made = config.__init__

    @functools.wraps(made)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            made(self, *args, **kwargs)
        except ValidationError as error:
            raise FlagError("\n".join(_said(each, config) for each in error.errors())) from None

    config.__init__ = init  # type: ignore[method-assign]
    return config


def _said(error: Any, config: type) -> str:
    """One of pydantic's: of a check of our own its words, of a field the flag, what was wanted, and what came."""
    if not error["loc"]:
        return str(error.get("ctx", {}).get("error", error["msg"]))
    name = str(error["loc"][0])
    wanted = error["msg"].removeprefix("Input ").removesuffix(".")
    return f"{flag(keywords(config).get(name, name))} {wanted}; got {error['input']!r}."


@contextmanager
def naming_flag(keyword: str, value: object, argument: str = "") -> Iterator[None]:
    """A ValueError or FileNotFoundError inside names the flag and its value; the flag in place of `argument`."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        said = str(error)
        if argument and said.startswith(f"{argument} "):
            raise kind(flag(keyword) + said.removeprefix(argument)) from error
        before = "" if said.startswith(str(value)) else f"{value}: "
        raise kind(f"{flag(keyword)} {before}{said}") from error
