"""Kinds of values that ids come from: the text 12 and the number 12 give different ids."""

from __future__ import annotations

from recis_core.cli.columns import Columns
from recis_core.io.file_set import FileSet
from recis_core.io.kinds import MIXES, kind_of
from recis_core.io.roles import Ids

NUMBERS = frozenset(kind for pair in MIXES for kind in pair)  # whose ids are equal where the numbers are


def kinds_of(columns: Columns, files: FileSet) -> dict[str, str]:
    """{column: kind of its ids} in all files that hold some; "null" where none does."""
    return {name: _kind(name, _role(columns, name), files) for name in columns.fields}


def _role(columns: Columns, name: str) -> Ids:
    return Ids(text=name in columns.text, whole=name in columns.whole, unit=columns.units.get(name))


def _kind(name: str, role: Ids, files: FileSet) -> str:
    kinds = [kind for file in files.rows if (kind := kind_of(files.columns_of(file)[name])) is not None]
    common = role.common(kinds) if kinds else None
    if common is None:
        return "null"
    return f"{common.values} in {role.unit}" if role.unit else common.values


def other_kinds(saved: dict[str, str], now: dict[str, str]) -> list[str]:
    """Columns whose ids come from another kind of value than before."""
    pairs = {name: {saved.get(name, "null"), kind} for name, kind in now.items()}
    return [name for name, pair in pairs.items() if len(pair - {"null"}) > 1 and not pair <= NUMBERS]


def require_kinds(saved: dict[str, str], columns: Columns, files: FileSet) -> None:
    """Raises TypeError where ids come from another kind of value than before."""
    now = kinds_of(columns, files)
    for name in other_kinds(saved, now):
        raise TypeError(
            f"column {name!r} of {next(iter(files.rows))} holds {files.columns[name]}, ids of {now[name]}; the run was trained "
            f"on ids of {saved[name]}, which are other ids. Write the column as {saved[name]}."
        )
