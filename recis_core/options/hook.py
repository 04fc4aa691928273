"""The base of admission and eviction hooks: a kind by name, checked parameters, a text form.

frequency(5)                                  the first parameter without its name
frequency(5,counter=bloom,bytes=1e8)          other parameters by name, numbers as in Python
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

FORM = re.compile(r"\s*(\w+)\s*(?:\(([^()]*)\))?\s*")


@dataclass(frozen=True)
class Parameter:
    """One of a kind's parameters. default None: required. holds: whether a value is valid; wanted: the same in words."""

    name: str
    kind: type
    wanted: str
    holds: Callable[[Any], bool]
    default: Any = None

    def checked(self, value: Any) -> Any:
        """The value as `kind`; a whole float counts as an int."""
        if self.kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        if self.kind is float and type(value) is int:
            value = float(value)
        if type(value) is not self.kind:
            raise TypeError(f"{self.name} must be of type {self.kind.__name__}; got {value!r}.")
        if not self.holds(value):
            raise ValueError(f"{self.name} must be {self.wanted}; got {value!r}.")
        return value


@dataclass(frozen=True)
class Kind:
    """A hook's kind: its name in text, and its parameters."""

    text: str
    parameters: tuple[Parameter, ...] = ()

    def checked(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters by name, checked, with defaults."""
        known = {p.name: p for p in self.parameters}
        if unknown := set(given) - set(known):
            raise ValueError(f"{name} takes {', '.join(known) or 'no parameters'}; got {', '.join(sorted(unknown))}.")
        filled = {p.name: given.get(p.name, p.default) for p in self.parameters}
        if missing := [n for n, value in filled.items() if value is None]:
            raise ValueError(f"{name} needs {', '.join(missing)}; got {dict(given)!r}.")
        return {n: known[n].checked(value) for n, value in filled.items()}


def read_hook(text: str, kinds: Mapping[str, Kind], what: str) -> tuple[str, dict[str, Any]]:
    """(name of the kind, its parameters) of a text.

    Raises:
      ValueError: the text has another form, or names none of the kinds.
    """
    found, names = FORM.fullmatch(text), {kind.text: name for name, kind in kinds.items()}
    if found is None or found[1] not in names:
        forms = ", ".join(_form(kind) for kind in kinds.values())
        raise ValueError(f"{what} must read {forms}; got {text!r}.")
    name = names[found[1]]
    parts = [part.strip() for part in (found[2] or "").split(",") if part.strip()]
    return name, dict(_read_part(part, i, kinds[name], text) for i, part in enumerate(parts))


def write_hook(kind: Kind, params: Mapping[str, Any]) -> str:
    first, *rest = kind.parameters or (None,)
    if first is None:
        return kind.text
    more = [f"{p.name}={params[p.name]}" for p in rest if params[p.name] != p.default]
    return f"{kind.text}({','.join([str(params[first.name]), *more])})"


def _form(kind: Kind) -> str:
    first = kind.parameters[0].name if kind.parameters else None
    return kind.text if first is None else f"{kind.text}({first})"


def _read_part(part: str, place: int, kind: Kind, text: str) -> tuple[str, Any]:
    name, equals, value = part.rpartition("=")
    if not equals:
        if place or not kind.parameters:
            raise ValueError(f"only the first parameter of {kind.text} goes without its name; got {text!r}.")
        name = kind.parameters[0].name
    return name.strip(), _value(value.strip())


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def positive(value: float) -> bool:
    return 0 < value < float("inf")


def count(name: str, default: int | None = None, low: int = 1) -> Parameter:
    """A parameter that is an int of at least `low`."""
    return Parameter(name, int, f"at least {low}", lambda value: value >= low, default)
