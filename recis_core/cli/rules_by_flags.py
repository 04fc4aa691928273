"""Rules of single columns, checked against files and against what each column is read as."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recis_core.cli.column_rules import Role, nulls_of, reader_rule, units_of, weights_of
from recis_core.cli.data_flags import KINDS, DataFlags
from recis_core.cli.flags import flag
from recis_core.io.file_set import FileSet


def all_columns(files: FileSet) -> list[str]:
    """Of any file, in order."""
    return list(dict.fromkeys(name for file in files.rows for name in files.columns_of(file)))


def require_columns(files: FileSet, keyword: str, columns: Iterable[str]) -> None:
    """Raises ValueError where no file has a column that a flag names."""
    for column in columns:
        if column not in all_columns(files):
            raise ValueError(
                f"{next(iter(files.rows))} has no column {column!r} for {flag(keyword)}; it has {', '.join(files.columns)}."
            )


def require_ids(keyword: str, named: Iterable[str], fields: Sequence[str]) -> None:
    """Raises ValueError where a flag names a column that is read as no ids."""
    for column in named:
        if column not in fields:
            raise ValueError(
                f"{flag(keyword)} names {column!r}, which is not read as ids; those are {', '.join(fields)}."
            )


def require_rules(files: FileSet, flags: DataFlags) -> None:
    """Raises ValueError where files lack a column that a rule names, or a flag takes weights for something else."""
    weights = weights_of(flags.weight_columns)
    require_columns(files, "weight_columns", [*weights, *weights.values()])
    require_columns(files, "time_units", units_of(flags.time_units))
    require_columns(files, "nulls", nulls_of(flags.nulls))
    for column in weights.values():
        if column in (flags.label, flags.truth):
            raise ValueError(f"--weight-columns names {column!r}, which --label or --truth reads.")
        for name in ("skip", *KINDS):
            if column in getattr(flags, name):
                raise ValueError(f"{flag(name)} and --weight-columns both name {column!r}; give it to one of them.")


def units_by_flags(flags: DataFlags, fields: Sequence[str]) -> dict[str, str]:
    """{column of ids: unit of time}"""
    units = units_of(flags.time_units)
    require_ids("time_units", units, fields)
    for column in units:
        if column in flags.string_columns:
            raise ValueError(f"--string-columns and --time-units both name {column!r}; give it to one of them.")
    return units


def nulls_by_flags(flags: DataFlags, roles: Mapping[str, Role]) -> dict[str, dict[str, Any]]:
    """{column: arguments of the reader}; roles: of all inputs."""
    rules = nulls_of(flags.nulls)
    for column in rules:
        if column not in roles:
            raise ValueError(f"--nulls names {column!r}, which is no input; inputs are {', '.join(roles)}.")
    made = {column: reader_rule(column, roles[column], rule) for column, rule in rules.items()}
    return {column: arguments for column, arguments in made.items() if arguments}
