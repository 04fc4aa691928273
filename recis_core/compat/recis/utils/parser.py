"""Command-line arguments from dataclasses.

parser = ArgumentParser()
parser.add_arguments(LRConfig, dest="lr")       # class LRConfig: dense_lr: float = 0.001
args = parser.parse_args(["--dense_lr=.01"])    # args.lr is an LRConfig
"""

from __future__ import annotations

import argparse
import json
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

TRUE, FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")


class ArgumentParser(argparse.ArgumentParser):
    """argparse's, with RecIS's add_arguments: fields of dataclasses become --options.

    A field without a default is required. A field may be a str, number, bool ("--flag" or "--flag=false"), a list (values
    after the option, or as JSON), or Optional of these ("none" is None).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._dataclasses: dict[str, Any] = {}

    def add_arguments(self, dataclass: type[Any], dest: str | None = None, **kwargs: Any) -> None:
        """Add the fields of a dataclass, which parse_args gives as `args.<dest>`, by default its class name.

        Raises:
          TypeError: it is no dataclass. ValueError: another dataclass has that dest. argparse.ArgumentError: or that field.
        """
        if not isinstance(dataclass, type) or not is_dataclass(dataclass):
            raise TypeError(f"add_arguments takes a dataclass; got {dataclass!r}.")
        name = dest or dataclass.__name__
        if name in self._dataclasses:
            raise ValueError(f"dest {name!r} is taken by {self._dataclasses[name].__name__}; give another.")
        group, hints = self.add_argument_group(f"{dataclass.__name__} [{name!r}]"), typing.get_type_hints(dataclass)
        for field in fields(dataclass):
            if field.init:
                group.add_argument(f"--{field.name}", **_option(field, hints[field.name]))
        self._dataclasses[name] = dataclass

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, left = super().parse_known_args(args, namespace)
        for name, kind in self._dataclasses.items():
            values = {f.name: found.__dict__.pop(f.name) for f in fields(kind) if f.init and hasattr(found, f.name)}
            setattr(found, name, kind(**values))
        return found, left


def _option(field: Field[Any], hint: Any) -> dict[str, Any]:
    default = field.default_factory() if field.default_factory is not MISSING else field.default
    of = _without_none(hint)
    option: dict[str, Any] = {"type": _reader(of, hint), "metavar": getattr(of, "__name__", str(of)).upper()}
    if default is MISSING:
        option["required"] = True
    else:
        option |= {"default": default, "help": f"default {default}"}
    if of is bool:
        option |= {"nargs": "?", "const": True}
    elif of is list or typing.get_origin(of) is list:
        option |= {"nargs": "*", "action": _Joined}
    return option


class _Joined(argparse.Action):
    """Values of a list; each may be a JSON list."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        parts: list[Any] = [part for value in values for part in (value if isinstance(value, list) else [value])]
        setattr(namespace, self.dest, None if parts == [None] else parts)


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        return kinds[0] if len(kinds) == 1 else str
    return hint


def _reader(of: Any, hint: Any) -> Callable[[str], Any]:
    nullable = hint is not of
    item = _item(of)

    def read(text: str) -> Any:
        return None if nullable and text.lower() == "none" else item(text)

    read.__name__ = getattr(of, "__name__", str(of))  # argparse names it in its error
    return read


def _item(of: Any) -> Callable[[str], Any]:
    if of is bool:
        return _as_bool
    if of is list or typing.get_origin(of) is list:
        inner: Sequence[Any] = typing.get_args(of)
        return lambda text: json.loads(text) if text[:1] in ("[", "{") else _item(inner[0] if inner else str)(text)
    return of if of in (int, float, str) else (json.loads if of is dict or typing.get_origin(of) is dict else str)


def _as_bool(text: str) -> bool:
    if text.lower() not in (*TRUE, *FALSE):
        raise ValueError(f"a bool is true or false; got {text!r}.")
    return text.lower() in TRUE
