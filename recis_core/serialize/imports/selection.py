"""Which tables of a source go into which of a model, by names and patterns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from recis_core.backends.errors import StateMismatch


def selected(
    theirs: Sequence[str],
    mine: Sequence[str],
    load: Sequence[str],
    exclude: Sequence[str],
    rename: Mapping[str, str],
    where: str,
) -> dict[str, str]:
    """{table of the model: table of the source}, in the order of the model's.

    rename: {pattern of a source's name: name in the model}; a * stands for the same letters on both sides. The first pattern
    that fits a name holds.

    Raises:
      StateMismatch: two tables of the source get one name, a pattern of `load` or `rename` fits nothing, or no table is left.
      ValueError: a pattern of rename has several *, or one side alone has one.
    """
    for pattern, name in rename.items():
        if pattern.count("*") > 1 or pattern.count("*") != name.count("*"):
            raise ValueError(f"rename takes one * on both sides, or none; got {pattern!r}: {name!r}.")
        if not any(fnmatchcase(each, _literal(pattern)) for each in theirs):
            raise StateMismatch(f"{where} has no table {pattern!r} to rename; it has {_some(theirs)}.")
    named: dict[str, str] = {}
    for name in theirs:
        new = renamed(name, rename)
        if new in named:
            raise StateMismatch(f"{where}: tables {named[new]!r} and {name!r} both become {new!r}. Rename one of them.")
        named[new] = name
    unknown = [pattern for pattern in load if not any(fnmatchcase(name, _literal(pattern)) for name in mine)]
    if unknown:
        raise StateMismatch(f"load names {unknown[0]!r}, which is no table here; there are {_some(mine)}.")
    fits = {name: named[name] for name in mine if name in named and _any(name, load) and not _any(name, exclude)}
    if not fits:
        raise StateMismatch(
            f"{where} has no table for this model: its tables are {_some(list(named))}, the model's {_some(mine)}. Give "
            "rename={their name: name here}."
        )
    return fits


def renamed(name: str, rename: Mapping[str, str]) -> str:
    for pattern, new in rename.items():
        if fnmatchcase(name, _literal(pattern)):
            before, star, after = pattern.partition("*")
            return new.replace("*", name[len(before) : len(name) - len(after)]) if star else new
    return name


def _any(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, _literal(pattern)) for pattern in patterns)


def _literal(pattern: str) -> str:
    """The pattern with * alone as a wildcard."""
    return pattern.replace("[", "[[]").replace("?", "[?]")


def _some(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)[:8]) or "none"
