"""Kinds of values that ids are made of: an id of text is another than that of a number, though both read 12."""

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
    return Ids(text=name in columns.text, whole=name in columns.whole)


def _kind(name: str, role: Ids, files: FileSet) -> str:
    kinds = [kind for file in files.rows if (kind := kind_of(files.columns_of(file)[name])) is not None]
    common = role.common(kinds) if kinds else None
    return "null" if common is None else common.values


def require_kinds(saved: dict[str, str], columns: Columns, files: FileSet) -> None:
    """Raises TypeError where ids are made of another kind of value than before."""
    for name, now in kinds_of(columns, files).items():
        before = saved.get(name, "null")
        if "null" in (before, now) or before == now or {before, now} <= NUMBERS:
            continue
        file = next(iter(files.rows))
        raise TypeError(
            f"column {name!r} of {file} holds {files.columns[name]}, ids of {now}; the run was trained on ids of {before}, "
            f"which are other ids. Write the column as {before}."
        )
