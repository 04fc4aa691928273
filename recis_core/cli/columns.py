"""Which columns of files a model takes, and as what."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from recis_core.cli import torchrun
from recis_core.cli.column_rules import Role, units_of, weights_of
from recis_core.cli.data_flags import KINDS, NAMES, DataFlags
from recis_core.cli.flags import flag
from recis_core.cli.rules_by_flags import (
    all_columns,
    nulls_by_flags,
    require_columns,
    require_ids,
    require_rules,
    units_by_flags,
)  # fmt: skip
from recis_core.io.file_dataset import FileDataset
from recis_core.io.file_set import FileSet
from recis_core.io.kinds import Kind, kind_of, together
from recis_core.io.maps import KEYS, VALUES
from recis_core.io.roles import Values
from recis_core.io.synthetic.write import WEIGHT_SUFFIX

LABEL, TRUTH, DENSE = "label", "p", "dense"  # a batch's own keys
KEPT = re.compile(r"[%.:/\\\x00-\x1f\x7f]")  # reserved in keys of a state, file names and `recis plan`
INDEX = re.compile(r"|__index_level_\d+__")  # pandas' names for an index, of to_csv and to_parquet


def field_name(column: str) -> str:
    """The name of a column's feature and table: the column's, but for names that tables and batches reserve.

    user is user; user.id is user%2Eid; label is %6Cabel. `urllib.parse.unquote` gives the column back.
    """
    kept = KEPT.sub(lambda found: f"%{ord(found[0]):02X}", column)
    return f"%{ord(kept[0]):02X}{kept[1:]}" if kept in (LABEL, TRUTH, DENSE) else kept or "%"


@dataclass(frozen=True)
class Columns:
    """label, truth: columns, or None where none is read. fields: of ids. weights: by field. dense: widths by column. text,
    whole: fields to read so. units: of time, by field. nulls: arguments of the reader, by column. All plain values:
    dataclasses.asdict gives JSON, and Columns(**json) the columns; older states have no units and nulls."""

    label: str | None
    truth: str | None
    fields: list[str]
    weights: dict[str, str]
    dense: dict[str, int]
    text: list[str]
    whole: list[str]
    units: dict[str, str] = field(default_factory=dict)
    nulls: dict[str, dict[str, Any]] = field(default_factory=dict)

    def read_by(self, dataset: FileDataset) -> None:
        """Declare the features of a dataset, which checks all its files."""
        if self.label is not None:
            dataset.label_feature(self.label)
        if self.truth is not None:
            dataset.probability_feature(self.truth)
        for column, width in self.dense.items():
            dataset.dense_feature(column, width, **self.nulls.get(column, {}))
        for column in self.fields:
            weight = self.weights.get(column)
            unit, nulls = self.units.get(column), self.nulls.get(column, {})
            dataset.id_feature(column, weight, text=column in self.text, whole=column in self.whole, unit=unit, **nulls)


def choose(files: FileSet, flags: DataFlags) -> Columns:
    """Sort the columns of files by flags and types.

    Raises:
      ValueError: one that is named is missing, or files hold others than the first. TypeError: a type is none that is read.
    """
    given = weights_of(flags.weight_columns)
    inputs = [name for name in _inputs(files, flags) if name not in given.values()]
    kinds = {name: _kind(files, name, flags) for name in inputs}
    fields = [name for name in inputs if _is_field(name, kinds[name], flags)]
    others = [name for name in inputs if name not in fields]
    _refuse_second_weights(given, _unnamed(others, flags))
    weights = _weights([name for name in fields if name not in given], _unnamed(others, flags)) | given
    dense = {name: files.first_length(name) for name in others if name not in weights.values()}
    if not fields:
        raise ValueError(
            f"{_first(files)}: at least one column must hold ids: integers, text, dates …; got "
            f"{_listed(files, inputs) or 'none'} beside the label. --id-columns reads whole floats as ids."
        )
    require_ids("weight_columns", given, fields)
    texts = {name for name in fields if kinds[name].values == "text" or name in flags.string_columns}
    roles: dict[str, Role] = {name: "text" if name in texts else "ids" for name in fields}
    roles |= dict.fromkeys(dense, "dense")
    return Columns(
        flags.label, flags.truth, fields, weights, dense, list(flags.string_columns), list(flags.id_columns),
        units_by_flags(flags, fields), nulls_by_flags(flags, roles),
    )  # fmt: skip


def _refuse_second_weights(given: dict[str, str], floats: list[str]) -> None:
    """Raises ValueError where a column is by its name the weights of a field that --weight-columns gives others."""
    for name, second in _weights(given, floats).items():
        raise ValueError(
            f"{second!r} holds by its name the weights of {name!r}, and --weight-columns gives it {given[name]!r}. "
            f"--skip {second} leaves the column out, --dense-columns {second} makes it a dense input."
        )


def _unnamed(others: Sequence[str], flags: DataFlags) -> list[str]:
    return [name for name in others if name not in flags.dense_columns]


def _inputs(files: FileSet, flags: DataFlags) -> list[str]:
    held = all_columns(files)
    for name in ("label", "truth"):
        require_columns(files, name, filter(None, [getattr(flags, name)]))
    for name in NAMES:
        require_columns(files, name, getattr(flags, name))
    require_rules(files, flags)
    if not flags.columns:
        files.require_same_columns(flags.skip)
    _check_own(flags)
    own = {flags.label, flags.truth, *flags.skip}
    named = {name for kind in ("columns", *KINDS) for name in getattr(flags, kind)}
    named |= {name for pair in weights_of(flags.weight_columns).items() for name in pair}
    _warn_of_index([name for name in held if INDEX.fullmatch(name) and name not in named | own])
    return [
        name
        for name in held
        if name not in own and (name in named if flags.columns else name in named or not INDEX.fullmatch(name))
    ]


def _check_own(flags: DataFlags) -> None:
    if flags.label == flags.truth:
        raise ValueError(f"--label and --truth both name {flags.label!r}; a truth is a probability, not the label.")
    for name in ("skip", *KINDS):
        for column in (flags.label, flags.truth):
            if column in getattr(flags, name):
                raise ValueError(f"{flag(name)} names {column!r}, which --label or --truth reads.")


def _warn_of_index(names: list[str]) -> None:
    for name in names if torchrun.is_first() else []:
        said = f"recis: column {name!r} is left out: it looks like the index of a pandas frame. --columns takes it."
        print(said, file=sys.stderr)


def _kind(files: FileSet, name: str, flags: DataFlags) -> Kind:
    """Of a column in all files."""
    kinds = [kind_of(kind) for kind in files.types(name)]
    known = [kind for kind in kinds if kind is not None]
    if len(known) == len(kinds) and all(kind.depth <= 1 for kind in known):
        if any(name in getattr(flags, kind) for kind in KINDS) or name in units_of(flags.time_units):
            return known[0]
        common = together(known)
        if common is not None:
            return common
        files.target(name, Values())  # raises, naming the files that do not go together
    file = next(f for f, k in zip(files.rows, kinds, strict=True) if k is None or k.depth > 1)
    what = "a nested list" if kinds[list(files.rows).index(file)] else "no kind of value that is read"
    raise TypeError(
        f"column {name!r} of {file} is {what}: {files.columns_of(file)[name]}. A row holds one value or one list; --skip "
        f"{name} leaves the column out."
    )


def _is_field(name: str, kind: Kind, flags: DataFlags) -> bool:
    if name in flags.dense_columns:
        return False
    return kind.values != "floating" or name in (*flags.string_columns, *flags.id_columns)


def _weights(fields: Iterable[str], floats: list[str]) -> dict[str, str]:
    """{field: the column of its weights}, by their names; of the keys of a map its values."""
    pairs = [(field, field + WEIGHT_SUFFIX) for field in fields]
    pairs += [(field, field.removesuffix(KEYS) + VALUES) for field in fields if field.endswith(KEYS)]
    return {field: weight for field, weight in pairs if weight in floats}


def _listed(files: FileSet, names: list[str]) -> str:
    return ", ".join(f"{name} ({files.columns[name]})" for name in names)


def _first(files: FileSet) -> str:
    return next(iter(files.rows))
