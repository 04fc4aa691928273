"""A config file of a command: its flags as YAML, by group or by flag.

batch_size: 4096                 a flag of no group
cache: {device_rows: 1%}         a group and its fields: --cache-device-rows 1%
save: runs/today                 or a flag by its own name: --save
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, get_type_hints

import yaml

from recis_core.cli.config_value import WrongValue, value_of
from recis_core.cli.flags import FlagError, groups, keywords
from recis_core.options.yaml_file import read_nodes

Way = tuple[str, ...]  # (field,) or (group, field)


@dataclass(frozen=True)
class Given:
    """A value that a file gives, and where."""

    value: Any
    line: int


def read_config_file(path: str, kind: type) -> dict[Way, Given]:
    """{(field,) or (group, field): what the file gives}.

    Raises:
      FlagError: in one line that names the file, and the line if there is one.
    """
    try:
        root = read_nodes(path)
    except OSError as error:
        reason = error.strerror or "there is no such file"
        raise FlagError(f"{path} cannot be read: {reason}.{_other_ways(path, kind)}") from None
    except ValueError as error:
        raise FlagError(_one_line(path, error) + _other_ways(path, kind)) from None
    if root is None:
        raise FlagError(f"{path} is empty; {_wanted(kind)}.")
    return _File(path, kind).read(root)


def _other_ways(path: str, kind: type) -> str:
    """What else may have been meant by a word before the flags."""
    if path.endswith((".yaml", ".yml")):
        return ""
    known = keywords(kind).values()
    saved = ", a saved run by --state" if "state" in known else ""
    return f" A config file in YAML may stand before the flags; files of rows are given by --data{saved}."


def _wanted(kind: type) -> str:
    return f"it must map {'groups or ' if groups(kind) else ''}flags to values, and --print-config shows one that does"


class _File:
    def __init__(self, path: str, kind: type) -> None:
        self._path, self._groups, self._kind = path, groups(kind), kind
        self._flags: dict[str, Way] = {keyword: (name,) for name, keyword in keywords(kind).items()}
        for group, each in self._groups.items():
            self._flags |= {keyword: (group, name) for name, keyword in keywords(each).items()}

    def read(self, root: yaml.Node) -> dict[Way, Given]:
        found: dict[Way, Given] = {}
        for way, name, node in self._ways(self._map(root, "")):
            if way in found:
                raise self._error(node.start_mark.line + 1, f"{name} is given twice, first in line {found[way].line}.")
            found[way] = self._given(way, name, node)
        return found

    def _ways(self, entries: Mapping[str, tuple[yaml.Node, yaml.Node]]) -> Iterator[tuple[Way, str, yaml.Node]]:
        for key, (place, node) in entries.items():
            if key in self._groups and (isinstance(node, yaml.MappingNode) or key not in self._flags):
                yield from self._of_group(key, node)
            elif key.replace("-", "_") in self._flags:
                yield self._flags[key.replace("-", "_")], key, node
            else:
                raise self._error(place.start_mark.line + 1, f"there is no key {key!r}. {self._hint(key)}")

    def _of_group(self, group: str, node: yaml.Node) -> Iterator[tuple[Way, str, yaml.Node]]:
        kind, nothing = self._groups[group], isinstance(node, yaml.ScalarNode) and not node.value
        own = {keyword: name for name, keyword in keywords(kind).items()} | {name: name for name in keywords(kind)}
        for key, (place, value) in ({} if nothing else self._map(node, group)).items():
            if key.replace("-", "_") not in own:
                said = f"group {group} has no key {key!r}. {self._hint(key, keywords(kind))}"
                raise self._error(place.start_mark.line + 1, said)
            yield (group, own[key.replace("-", "_")]), f"{group}.{key}", value

    def _map(self, node: yaml.Node, group: str) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """{key: (where it stands, its value)}"""
        line = node.start_mark.line + 1
        if not isinstance(node, yaml.MappingNode):
            came = "a list" if isinstance(node, yaml.SequenceNode) else repr(node.value)
            if group:
                raise self._error(
                    line, f"{group} must be a map of {', '.join(keywords(self._groups[group]))}; got {came}."
                )
            raise self._error(line, f"{_wanted(self._kind)}; got {came}.")
        found: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            name = self._key(key)
            if name in found:
                first = found[name][0].start_mark.line + 1
                raise self._error(key.start_mark.line + 1, f"{name!r} is given twice, first in line {first}.")
            found[name] = key, value
        return found

    def _key(self, key: yaml.Node) -> str:
        if not isinstance(key, yaml.ScalarNode):
            raise self._error(key.start_mark.line + 1, "a key must be text; got a list or a map.")
        return str(key.value)

    def _given(self, way: Way, name: str, node: yaml.Node) -> Given:
        kind = self._groups[way[0]] if len(way) == 2 else self._kind
        try:
            return Given(value_of(node, get_type_hints(kind, include_extras=True)[way[-1]]), node.start_mark.line + 1)
        except WrongValue as error:
            raise self._error(error.line, f"{name} {error}") from None

    def _hint(self, key: str, own: Mapping[str, str] = MappingProxyType({})) -> str:
        """Where the key belongs, or the nearest one that there is. own: {field: flag} of the group it stands in."""
        name = key.replace("-", "_")
        elsewhere = [group for group, kind in self._groups.items() if name in keywords(kind)]
        if elsewhere and name not in own:
            return f"Did you mean {name} of group {elsewhere[0]}?"
        if own and name in self._flags:
            return f"{name} belongs outside of the group."
        there = (*own, *own.values()) if own else (*self._flags, *self._groups)
        near = difflib.get_close_matches(name, there, 1)
        if near:
            return f"Did you mean {near[0]}?"
        return f"Keys are {', '.join(own or (*self._groups, *keywords(self._kind).values()))}."

    def _error(self, line: int, said: str) -> FlagError:
        return FlagError(f"{self._path}, line {line}: {said}")


def _one_line(path: str, error: ValueError) -> str:
    """YAML's own words, which take several lines, with the place first."""
    cause = error.__context__
    if isinstance(cause, UnicodeDecodeError):
        line = cause.object.count(b"\n", 0, cause.start) + 1
        return f"{path}, line {line}: the file must be UTF-8; byte {cause.object[cause.start]:#04x} is not."
    mark, problem = getattr(cause, "problem_mark", None), str(getattr(cause, "problem", None))
    if mark is None:
        return f"{path} cannot be read: {' '.join(str(cause).split())}."
    before = f"{getattr(cause, 'context', '')}, " if problem.startswith("but ") else ""
    tab = " YAML is indented by spaces." if "\\t" in problem else ""
    return f"{path}, line {mark.line + 1}: {before}{problem}.{tab}"
