"""What files hold: their columns, counted in one pass, a piece at a time."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from recis_core.io.column_profile import ColumnProfile
from recis_core.io.file_format import reading
from recis_core.io.file_set import FileSet
from recis_core.io.formats import SUFFIXES, format_of_all
from recis_core.io.kinds import kind_of, together
from recis_core.io.leaves import one_array
from recis_core.io.maps import KEYS, VALUES
from recis_core.io.paths import expand
from recis_core.io.pieces import read_piece
from recis_core.io.plain_value import shown
from recis_core.io.synthetic.write import WEIGHT_SUFFIX


@dataclass
class Profile:
    """columns: counts of those that are read. notes: by column what is wrong with it. sample: the first rows. rows: counted."""

    files: FileSet
    columns: dict[str, ColumnProfile] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    sample: list[dict[str, Any]] = field(default_factory=list)
    rows: int = 0

    @property
    def names(self) -> list[str]:
        """Columns of any file, in order."""
        return list(dict.fromkeys(name for file in self.files.rows for name in self.files.columns_of(file)))

    def types(self, name: str) -> list[str]:
        """Types in the files that have the column, each once."""
        held = [self.files.columns_of(file) for file in self.files.rows]
        return list(dict.fromkeys(str(columns[name]) for columns in held if name in columns))

    def role(self, name: str) -> str:
        """What `recis train` makes of it: "ids", "weights" of ids, "dense", or "" where it is not read."""
        profile, held = self.columns.get(name), self.files.columns_of(self._first(name)).get(name)
        kind = None if held is None else kind_of(held)
        if profile is None or kind is None or kind.depth > 1:
            return ""
        if kind.values != "floating":
            return "ids"
        return "weights" if weighed_by(name) & set(self.names) else "dense"

    def _first(self, name: str) -> str:
        return next(file for file in self.files.rows if name in self.files.columns_of(file))

    def as_json(self) -> dict[str, Any]:
        columns = {}
        for name in self.names:
            found = {} if name not in self.columns else self.columns[name].summary()
            note = {"note": self.notes[name]} if name in self.notes else {}
            columns[name] = {"types": self.types(name), "read_as": self.role(name)} | found | note
        return {
            "files": dict(self.files.rows),
            "rows": self.files.all_rows,
            "rows_counted": self.rows,
            "columns": columns,
            "sample": self.sample,
        }


def weighed_by(name: str) -> set[str]:
    """The columns of ids whose weights a column of this name holds."""
    ends = ((WEIGHT_SUFFIX, ""), (VALUES, KEYS))
    return {name.removesuffix(end) + other for end, other in ends if name.endswith(end)}


def profile_of(
    path: str | os.PathLike[str], rows: int | None, sample: int, show_rows: Callable[[int], None] = lambda rows: None
) -> Profile:
    """Counts the rows of the files that a path, URL, glob or folder names, or the first `rows`.

    Raises:
      FileNotFoundError: there are none. ValueError: a file is damaged; names file, column and piece.
    """
    form = format_of_all(list(expand(path, SUFFIXES)))
    found = Profile(FileSet().added(path, form))
    found.notes = {name: note for name in found.names if (note := _note(found.files, name))}
    read = [name for name in found.names if not _unread(found.files, name)]
    found.columns = {name: ColumnProfile(list(_kinds(found.files, name).values())) for name in read}
    for file, held in found.files.rows.items():
        with reading(file, form.name):
            pieces = len(form.piece_rows(file, held))
        for piece in range(pieces):
            left = None if rows is None else rows - found.rows
            if left is None or left > 0:
                _add(found, file, piece, left, sample)
                show_rows(found.rows)
    return found


def _add(found: Profile, file: str, piece: int, rows: int | None, sample: int) -> None:
    table = read_piece(found.files.forms[file], file, piece, found.files.schemas[file]).slice(0, rows)
    for name in found.files.folders[file]:
        if name not in table.column_names:
            table = table.append_column(name, found.files.folder_column(file, name, len(table)))
    for name in table.column_names:
        if name in found.columns:
            found.columns[name].add(one_array(table[name]))
    found.rows += len(table)
    if len(found.sample) < sample:
        few = range(min(len(table), sample - len(found.sample)))
        found.sample += [{name: shown(table[name][row]) for name in table.column_names} for row in few]


def _kinds(files: FileSet, name: str) -> dict[str, pa.DataType]:
    held = {file: files.columns_of(file) for file in files.rows}
    return {file: columns[name] for file, columns in held.items() if name in columns}


def _unread(files: FileSet, name: str) -> bool:
    """Whether no reader takes the column, or not in all files alike."""
    kinds = [kind_of(kind) for kind in _kinds(files, name).values()]
    known = [kind for kind in kinds if kind is not None]
    return len(known) < len(kinds) or together(known) is None


def _note(files: FileSet, name: str) -> str:
    types = _kinds(files, name)
    odd = next((file for file in types if kind_of(types[file]) is None), None)
    if odd is not None:
        return f"{types[odd]} in {odd} is no kind of value that is read"
    if _unread(files, name):
        start = next(iter(types))
        other = next(f for f in types if together([kind_of(types[start]), kind_of(types[f])]) is None)  # type: ignore[list-item]
        return f"{types[start]} in {start} and {types[other]} in {other} do not go together"
    lacking = [file for file in files.rows if file not in types]
    return f"missing in {lacking[0]}" + (f" and {len(lacking) - 1} more" if len(lacking) > 1 else "") if lacking else ""
