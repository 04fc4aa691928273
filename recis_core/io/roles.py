"""Roles of columns: the kinds that a role takes, the kinds that files may mix, and the conversion to one type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from recis_core.io.ids import LEAVES, text_ids
from recis_core.io.kinds import Kind, kind_of, leaf_type, together
from recis_core.io.leaves import checked, over_leaves
from recis_core.io.numbers import Check, unchecked
from recis_core.io.time_units import counted, wanted_in

NUMBERS = ("integer", "boolean", "floating", "decimal", "null")
UNITS = {"date": "day", "timestamp": "us", "time": "us", "duration": "us"}  # of each kind, unless another is asked for


class Role(Protocol):
    @property
    def wanted(self) -> str:
        """The kinds that the role takes, in words, for errors."""
        ...

    def way_out(self, name: str) -> str:
        """The way out, for errors."""
        ...

    def takes(self, kind: Kind) -> bool:
        """Whether the role takes columns of this kind."""
        ...

    def common(self, kinds: Sequence[Kind]) -> Kind | None:
        """The common kind of files of these kinds; None if they do not go together."""
        ...

    def target(self, common: Kind, types: Sequence[pa.DataType]) -> pa.DataType:
        """The type of innermost values that `prepare` gives, for files of these types."""
        ...

    def prepare(self, array: pa.Array, target: pa.DataType) -> pa.Array:
        """A file's values, plain, converted to `target`; lists and nulls stay. Raises RowError."""
        ...

    @property
    def keeps(self) -> bool:
        """Whether `prepare` gives values that have their target's type back as they are, whatever they are."""
        ...


CAST = "Cast it when the file is written"


def _other_roles(name: str) -> str:
    return (
        f"{CAST}, or say how to read it: recis train --string-columns, --id-columns, --dense-columns, or --skip {name}; of a "
        "reader id_feature(text=True), id_feature(whole=True), dense_feature."
    )


def _as_ids(array: pa.Array, unit: str | None) -> pa.Array:
    if leaf_type(array.type) == pa.int64():
        return array
    name = _kind(array).values
    if name not in UNITS:
        return over_leaves(array, lambda values: checked(values, LEAVES[name], "an id"))
    wanted = unit or UNITS[name]
    return over_leaves(array, lambda v: checked(v, lambda part: counted(part, wanted), wanted_in(name, wanted)))


def _timed(kind: Kind, unit: str | None) -> bool:
    """Whether a unit of time, if one is asked for, is right for a kind."""
    return unit is None or kind.values in UNITS or kind.values == "null"


def _mixed_times(kinds: Sequence[Kind], unit: str | None) -> Sequence[Kind]:
    """In a unit that is asked for, dates and timestamps go together."""
    if unit is None:
        return kinds
    return [Kind("timestamp", kind.depth) if kind.values == "date" else kind for kind in kinds]


def _times(unit: str | None, wanted: str) -> str:
    return wanted if unit is None else f"dates, timestamps, times or durations, to be counted in unit={unit!r}"


def _kind(array: pa.Array) -> Kind:
    kind = kind_of(array.type)
    if kind is None:
        raise TypeError(f"no reader takes {array.type}.")
    return kind


def _as_floats(array: pa.Array, target: pa.DataType) -> pa.Array:
    if leaf_type(array.type) == target:
        return array
    return over_leaves(array, lambda values: values.cast(target, safe=False))


def _float_type(types: Sequence[pa.DataType]) -> pa.DataType:
    """The widest floating type, or float64 if a type is no float."""
    leaves = [leaf_type(kind) for kind in types]
    leaves = [leaf for leaf in leaves if not pa.types.is_null(leaf)]
    if not leaves or not all(map(pa.types.is_floating, leaves)):
        return pa.float64()
    return max(leaves, key=lambda leaf: leaf.bit_width)


@dataclass(frozen=True)
class Values:
    """Numbers as int64 or floats, text as bytes, in lists of any depth. unit: of times, which are all that it takes then."""

    unit: str | None = None

    @property
    def wanted(self) -> str:
        return _times(self.unit, "numbers, text, dates, times, or lists of them")

    def way_out(self, name: str) -> str:
        return _other_roles(name)

    def takes(self, kind: Kind) -> bool:
        return _timed(kind, self.unit)

    def common(self, kinds: Sequence[Kind]) -> Kind | None:
        return together(_mixed_times(kinds, self.unit))

    def target(self, common: Kind, types: Sequence[pa.DataType]) -> pa.DataType:
        if common.values in ("floating", "decimal"):
            return _float_type(types)
        return pa.large_binary() if common.values == "text" else pa.int64()

    def prepare(self, array: pa.Array, target: pa.DataType) -> pa.Array:
        if pa.types.is_floating(target):
            return _as_floats(array, target)
        if target == pa.int64():
            return _as_ids(array, self.unit)
        return over_leaves(array, lambda values: values.cast(target))

    @property
    def keeps(self) -> bool:
        return True


@dataclass(frozen=True)
class Ids:
    """int64 ids. text: hash each value's text, so that files may mix kinds. whole: accept floats that are whole numbers.
    unit: of times, which are all that it takes then."""

    text: bool = False
    whole: bool = False
    unit: str | None = None

    @property
    def wanted(self) -> str:
        floats = "" if self.text or self.whole else ", but no floats"
        return _times(self.unit, f"one value or one list of values a row to be ids{floats}")

    def way_out(self, name: str) -> str:
        return _other_roles(name)

    def takes(self, kind: Kind) -> bool:
        floats = self.text or self.whole or kind.values != "floating"
        return kind.depth <= 1 and floats and _timed(kind, self.unit)

    def common(self, kinds: Sequence[Kind]) -> Kind | None:
        if self.text:
            kinds = [Kind("null" if kind.values == "null" else "text", kind.depth) for kind in kinds]
        if self.whole:
            kinds = [Kind("integer", kind.depth) if kind.values == "floating" else kind for kind in kinds]
        return together(_mixed_times(kinds, self.unit))

    def target(self, common: Kind, types: Sequence[pa.DataType]) -> pa.DataType:
        return pa.int64()

    def prepare(self, array: pa.Array, target: pa.DataType) -> pa.Array:
        return over_leaves(array, text_ids) if self.text else _as_ids(array, self.unit)

    @property
    def keeps(self) -> bool:
        return not self.text


@dataclass(frozen=True)
class Numbers:
    """Floats of integers, bools, floats or decimals, one or a list a row; `check` raises at wrong values."""

    what: str
    check: Check = unchecked

    @property
    def wanted(self) -> str:
        return f"integers, bools, floats or decimals, one value or one list a row, to be {self.what}"

    def way_out(self, name: str) -> str:
        return f"{CAST}."

    def takes(self, kind: Kind) -> bool:
        return kind.depth <= 1 and kind.values in NUMBERS

    def common(self, kinds: Sequence[Kind]) -> Kind | None:
        return together([Kind("null" if kind.values == "null" else "floating", kind.depth) for kind in kinds])

    def target(self, common: Kind, types: Sequence[pa.DataType]) -> pa.DataType:
        return _float_type(types)

    def prepare(self, array: pa.Array, target: pa.DataType) -> pa.Array:
        floats = _as_floats(array, target)
        self.check(floats)
        return floats

    @property
    def keeps(self) -> bool:
        return self.check is unchecked
