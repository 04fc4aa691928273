"""The kind of a column's values and the depth of lists around them, for any Arrow type."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, reduce

import pyarrow as pa

TEXT = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view", "fixed_size_binary")
LISTS = ("list", "large_list", "fixed_size_list", "list_view", "large_list_view")
LIST_IDS = frozenset(getattr(pa.lib, f"Type_{name.upper()}") for name in LISTS)
TESTS: dict[str, Callable[[pa.DataType], bool]] = {
    "integer": pa.types.is_integer,
    "boolean": pa.types.is_boolean,
    "floating": pa.types.is_floating,
    "decimal": pa.types.is_decimal,
    "date": pa.types.is_date,
    "timestamp": pa.types.is_timestamp,
    "time": pa.types.is_time,
    "duration": pa.types.is_duration,
    "null": pa.types.is_null,
    "text": lambda kind: _is(kind, TEXT),
}
# Kinds that files may mix, and their common kind.
MIXES = {frozenset(pair): pair[1] for pair in (("boolean", "integer"), ("boolean", "decimal"), ("integer", "decimal"))}


def _is(kind: pa.DataType, names: tuple[str, ...]) -> bool:
    test = getattr(pa.types, f"is_{names[0]}", None)
    return bool(test and test(kind)) or (len(names) > 1 and _is(kind, names[1:]))


def is_list(kind: pa.DataType) -> bool:
    return kind.id in LIST_IDS


@dataclass(frozen=True)
class Kind:
    """values: a key of TESTS. depth: number of lists around values. zoned: timestamps have a time zone."""

    values: str
    depth: int
    zoned: bool = False


@lru_cache(maxsize=1024)
def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of the same values without dictionaries, extension types, views and fixed sizes of lists."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if is_list(kind):
        inner = plain_type(kind.value_type)
        return pa.large_list(inner) if _is(kind, ("large_list", "large_list_view")) else pa.list_(inner)
    return pa.large_binary() if _is(kind, ("string_view", "binary_view", "fixed_size_binary")) else kind


@lru_cache(maxsize=1024)
def leaf_type(kind: pa.DataType) -> pa.DataType:
    """The plain type of values in the innermost lists."""
    kind = plain_type(kind)
    while is_list(kind):
        kind = kind.value_type
    return kind


@lru_cache(maxsize=1024)
def kind_of(kind: pa.DataType) -> Kind | None:
    """The Kind of a type; None for structs, maps, unions and other types that no reader takes."""
    plain, depth = plain_type(kind), 0
    while is_list(plain):
        plain, depth = plain.value_type, depth + 1
    name = next((name for name, test in TESTS.items() if test(plain)), None)
    zoned = pa.types.is_timestamp(plain) and plain.tz is not None
    return None if name is None else Kind(name, depth, zoned)


def together(kinds: Iterable[Kind]) -> Kind | None:
    """The common kind of files of these kinds, or None."""
    return reduce(_mixed, list(dict.fromkeys(kinds)))  # type: ignore[arg-type]


def _mixed(a: Kind | None, b: Kind | None) -> Kind | None:
    if a is None or b is None:
        return None
    for none, other in ((a, b), (b, a)):
        if none.values == "null" and none.depth in (0, other.depth):
            return other
    if a.depth != b.depth:
        return None
    if a.values == b.values:
        return a if a.zoned == b.zoned else None
    mix = MIXES.get(frozenset((a.values, b.values)))
    return None if mix is None else Kind(mix, a.depth)
