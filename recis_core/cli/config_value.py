"""One value of a config file, read by the kind of its flag and from its own text.

YAML 1.1 guesses kinds from text: 1e-3 is text to it, no is false, 010 is 8, and 1:30 is 90. Here the flag says the kind, so
that `lr: 1e-3` is a number, `label: no` a column's name, and what fits neither is an error.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import TypeAdapter, ValidationError

NULL = ("", "~", "null", "Null", "NULL")
SAID = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
NATIVE = "tag:yaml.org,2002:"


class WrongValue(ValueError):
    """Says what was wanted and what came, and the line where it stands."""

    def __init__(self, said: str, line: int) -> None:
        super().__init__(said)
        self.line = line


def value_of(node: yaml.Node, hint: Any) -> Any:
    """The node's value as this annotation wants it. Raises WrongValue."""
    plain, optional = plain_kind(hint)
    if _is_null(node) and optional:
        return None
    value = _texts(node) if get_origin(plain) is tuple else _read(node, plain)
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        wanted = error.errors()[0]["msg"].removeprefix("Input ").removesuffix(".")
        raise _wrong(node, wanted.removeprefix("should be "), _shown(node)) from None


def plain_kind(hint: Any) -> tuple[Any, bool]:
    """(the kind that an annotation names, without None and marks; whether None is one)"""
    if get_origin(hint) is Annotated:
        return plain_kind(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        (kind,) = [each for each in get_args(hint) if each is not type(None)]
        return plain_kind(kind)[0], True
    return hint, False


def _read(node: yaml.Node, kind: Any) -> Any:
    if get_origin(kind) is Literal:
        return _text(node, "one of " + ", ".join(map(str, get_args(kind))))
    readers: dict[Any, Callable[[yaml.Node], Any]] = {bool: _bool, int: _int, float: _float, str: _text}
    return readers[kind](node)


def _text(node: yaml.Node, wanted: str = "text") -> str:
    if not isinstance(node, yaml.ScalarNode) or _is_null(node):
        raise _wrong(node, wanted, _shown(node))
    if not node.tag.startswith(NATIVE):
        raise _wrong(node, "a value without a tag", _shown(node))
    return str(node.value)


def _texts(node: yaml.Node) -> tuple[str, ...]:
    if not isinstance(node, yaml.SequenceNode):
        raise _wrong(node, "a list such as [first, second]", _shown(node))
    return tuple(_text(each) for each in node.value)


def _bool(node: yaml.Node) -> bool:
    text = _text(node, "true or false")
    if text.lower() not in SAID:
        raise _wrong(node, "true or false", _shown(node))
    return SAID[text.lower()]


def _int(node: yaml.Node) -> int:
    """Without a leading zero, which is octal to YAML 1.1 and decimal to 1.2."""
    text = _text(node, "a whole number")
    if not re.fullmatch(r"[-+]?(0|[1-9][0-9_]*)", text):
        raise _wrong(node, "a whole number", _shown(node))
    return int(text)


def _float(node: yaml.Node) -> float:
    text = _text(node, "a number")
    try:
        return float(text)
    except ValueError:
        raise _wrong(node, "a number", _shown(node)) from None


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value in NULL


def _wrong(node: yaml.Node, wanted: str, came: str) -> WrongValue:
    return WrongValue(f"must be {wanted}; got {came}.", node.start_mark.line + 1)


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        keys = ", ".join(str(key.value) for key, _ in node.value[:3] if isinstance(key, yaml.ScalarNode))
        return f"a map of {keys or 'nothing'}"
    if isinstance(node, yaml.SequenceNode):
        return f"a list of {len(node.value)}"
    tag = "" if node.tag.startswith(NATIVE) else f"{node.tag} "
    return tag + ("null" if _is_null(node) else repr(node.value))
