"""Which tables of a source go into which of a model, by names and patterns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recis_core.backends.errors import StateMismatch
from recis_core.serialize.checkpoint.selection import fits, renamed


def selected(
    theirs: Sequence[str],
    mine: Sequence[str],
    load: Sequence[str],
    exclude: Sequence[str],
    rename: Mapping[str, str],
    where: str,
) -> dict[str, str]:
    """{table of the model: table of the source}, in the order of the source's.

    Raises:
      StateMismatch: as named, or no table is left.
    """
    chosen = named(theirs, load, exclude, rename, where)
    fits = {name: their for name, their in chosen.items() if name in mine}
    if not fits:
        raise StateMismatch(
            f"{where} has no table for this model: its tables are {_some(list(chosen))}, the model's {_some(mine)}. Give "
            "rename={their name: name here}."
        )
    return fits


def named(
    theirs: Sequence[str], load: Sequence[str], exclude: Sequence[str], rename: Mapping[str, str], where: str
) -> dict[str, str]:
    """{new name: name in the source} of tables that `load` names and `exclude` does not.

    rename: {name or pattern in the source: new name}; a * stands for the same letters on both sides. The first pattern that
    fits a name holds.

    Raises:
      StateMismatch: two tables get one name, or a pattern fits nothing.
      ValueError: a pattern of rename has several *, or one side alone has one.
    """
    for pattern, new in rename.items():
        if pattern.count("*") > 1 or pattern.count("*") != new.count("*"):
            raise ValueError(f"rename takes one * on both sides, or none; got {pattern!r}: {new!r}.")
    for pattern in (*load, *exclude, *rename):
        if pattern != "*" and not any(fits(name, (pattern,)) for name in theirs):
            raise StateMismatch(f"{where} has no table {pattern!r}; it has {_some(theirs)}.")
    found: dict[str, str] = {}
    for name in theirs:
        if not fits(name, load) or fits(name, exclude):
            continue
        new = renamed(name, rename)
        if new in found:
            raise StateMismatch(f"{where}: tables {found[new]!r} and {name!r} both become {new!r}. Rename one of them.")
        found[new] = name
    return found


def _some(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)[:8]) or "none"
