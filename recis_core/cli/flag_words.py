"""The words of a command line against the flags of a command, before tyro reads them: each mistake in one line.

A flag takes one word, one of bool none, one of a tuple all up to the next flag; words of no flag are positional.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

import tyro

from recis_core.cli.config_value import plain_kind
from recis_core.cli.flags import FlagError, flag, groups, keywords


@dataclass(frozen=True)
class Flag:
    """kind: of a value, as int or tuple[str, ...]. optional: whether it may be None. needed: whether it has no default."""

    name: str
    kind: Any
    optional: bool
    positional: bool
    needed: bool


def check_words(kind: type, argv: Sequence[str], default: Any) -> None:
    """default: a config whose fields hold where no flag says other; or none.

    Raises:
      FlagError: a flag that there is not, a value that a flag does not take, a word too many, a flag that is lacking.
    """
    if any(word in ("-h", "--help") for word in argv):
        return
    known = {each.name: each for each in _flags(kind, default)}
    given, loose = _walk(known, argv)
    places = [each for each in known.values() if each.positional]
    if len(loose) > len(places):
        raise FlagError(f"{loose[len(places)]!r} belongs to no flag. {_hint_of_loose(loose[len(places)], known)}")
    given |= {each.name for each in places[: len(loose)]}
    for each in known.values():
        if each.needed and each.name not in given:
            name = each.name.upper() if each.positional else flag(each.name)
            raise FlagError(f"{name} must be given, {_wanted(each)}. --help says what it is.")


def _flags(kind: type, default: Any) -> Iterable[Flag]:
    """Of a config and its groups."""
    hints, words = get_type_hints(kind, include_extras=True), keywords(kind)
    for field in fields(kind):
        if is_dataclass(hints[field.name]) or field.name in groups(kind):
            yield from _flags(groups(kind)[field.name], getattr(default, field.name, None))
            continue
        plain, optional = plain_kind(hints[field.name])
        marks = getattr(hints[field.name], "__metadata__", ())
        held = getattr(default, field.name, field.default)
        needed = held is MISSING or held is tyro.MISSING or held is tyro.MISSING_NONPROP
        needed = needed and field.default_factory is MISSING
        yield Flag(words[field.name], plain, optional, any(mark is POSITIONAL for mark in marks), needed)


POSITIONAL = tyro.conf.Positional[str].__metadata__[0]  # type: ignore[attr-defined]


def _walk(known: Mapping[str, Flag], argv: Sequence[str]) -> tuple[set[str], list[str]]:
    """(names of the flags that are given, words of no flag)"""
    given, loose, rest = set(), list[str](), list(argv)
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            given.add(_taken(word, rest, known))
        else:
            loose.append(word)
    return given, loose


def _taken(word: str, rest: list[str], known: Mapping[str, Flag]) -> str:
    """Take a flag's words from the rest and check them; returns its name."""
    name, equals, value = word[2:].partition("=")
    one = _found(name.replace("-", "_"), known)
    if one.kind is bool:
        _require_none(one, equals, value)
    elif get_origin(one.kind) is tuple:
        while rest and not rest[0].startswith("--"):
            rest.pop(0)
    else:
        _check_value(one, value if equals else _next(one, rest))
    return one.name


def _require_none(one: Flag, equals: str, value: str) -> None:
    if equals:
        opposite = flag(f"no_{one.name}")
        raise FlagError(f"{flag(one.name)} takes no value, and {opposite} is its opposite; got {value!r}.")


def _next(one: Flag, rest: list[str]) -> str:
    if not rest or rest[0].startswith("--"):
        came = f"the next flag {rest[0]}" if rest else "nothing"
        raise FlagError(f"{flag(one.name)} must be followed by {_wanted(one)}; got {came}.")
    return rest.pop(0)


def _found(name: str, known: Mapping[str, Flag]) -> Flag:
    if name in known and not known[name].positional:
        return known[name]
    opposite = known.get(name.removeprefix("no_"))
    if name.startswith("no_") and opposite is not None and opposite.kind is bool:
        return opposite
    near = difflib.get_close_matches(name, [each.name for each in known.values() if not each.positional], 1)
    raise FlagError(
        f"there is no flag {flag(name)}. {f'Did you mean {flag(near[0])}?' if near else '--help lists all.'}"
    )


def _check_value(one: Flag, text: str) -> None:
    if one.optional and text == "None":
        return
    if get_origin(one.kind) is Literal:
        names = [str(each) for each in get_args(one.kind)]
        if text not in names:
            raise _wrong(one, text, _nearest(text, names))
    elif one.kind in READ:
        read, meant = READ[one.kind]
        try:
            read(text)
        except ValueError:
            raise _wrong(one, text, meant(text)) from None


def _wrong(one: Flag, text: str, hint: str) -> FlagError:
    return FlagError(f"{flag(one.name)} must be {_wanted(one)}; got {text!r}.{hint}")


def _wanted(one: Flag) -> str:
    if get_origin(one.kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(one.kind)))
    words = {int: "a whole number", float: "a number", str: "text"}
    return words.get(one.kind, "a value") + (", or None" if one.optional and one.kind in READ else "")


def _nearest(text: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(text.lower(), names, 1)
    return f" Did you mean {near[0]}?" if near else ""


def _meant_whole(text: str) -> str:
    """1e5, 4.0 and 1,000 are whole numbers, otherwise written."""
    try:
        number = float(text.replace(",", ""))
    except ValueError:
        return ""
    return f" Did you mean {int(number)}?" if number.is_integer() and abs(number) < 2**63 else ""


def _meant_number(text: str) -> str:
    try:
        return f" Did you mean {float(text.replace(',', '.'))}?"
    except ValueError:
        return ""


READ: dict[Any, tuple[Callable[[str], Any], Callable[[str], str]]] = {
    int: (int, _meant_whole),
    float: (float, _meant_number),
}


def _hint_of_loose(word: str, known: Mapping[str, Flag]) -> str:
    near = difflib.get_close_matches(word.lstrip("-").replace("-", "_"), known, 1)
    if near:
        return f"Did you mean {flag(near[0])}?"
    if word.endswith((".yaml", ".yml")):
        return "A config file goes before the flags."
    return "--help lists all flags."
