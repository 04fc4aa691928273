"""The files of one data set: their columns, and checks that the files go together.

Sizes: R rows of all files.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property, reduce

import pyarrow as pa
import pyarrow.compute as pc

from recis_core.io.csv_format import CsvFormat, first_text
from recis_core.io.file_format import FileFormat, reading
from recis_core.io.kinds import Kind, is_list, kind_of, leaf_type, plain_type
from recis_core.io.maps import split_schema
from recis_core.io.paths import expand
from recis_core.io.pieces import read_piece
from recis_core.io.roles import Role

INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")


@dataclass(frozen=True)
class FileSet:
    """Files in order. rows, forms, schemas: by file. folders: by file the columns of its partition folders.

    In schemas a map is two columns, see io/maps.py.
    """

    rows: dict[str, int] = field(default_factory=dict)
    forms: dict[str, FileFormat] = field(default_factory=dict)
    schemas: dict[str, pa.Schema] = field(default_factory=dict)
    folders: dict[str, dict[str, str | None]] = field(default_factory=dict)

    def added(self, path: str | os.PathLike[str], form: FileFormat) -> FileSet:
        """This set with the files of this format that a path, glob or folder names.

        Raises:
          FileNotFoundError: path names no file. ValueError: a file is damaged, or was added before.
        """
        found = expand(path, form.suffixes)
        again = next((file for file in found if file in self.rows), None)
        if again is not None:
            raise ValueError(f"{again} was added before; its rows would come twice.")
        described = {file: _described(file, form) for file in found}
        schemas = {file: schema for file, (schema, _) in described.items()}
        rows = {file: count for file, (_, count) in described.items()}
        return self.beside(FileSet(rows, dict.fromkeys(found, form), schemas, found))

    def columns_of(self, file: str) -> dict[str, pa.DataType]:
        """{column: Arrow type}: the file's columns, then those of its partition folders."""
        return self._columns[file]

    @cached_property
    def _columns(self) -> dict[str, dict[str, pa.DataType]]:
        folders = {name: self._folder_type(name) for name in {name for held in self.folders.values() for name in held}}
        found = {}
        for file, schema in self.schemas.items():
            held = {field.name: field.type for field in schema}
            found[file] = held | {name: folders[name] for name in self.folders[file] if name not in held}
        return found

    def _folder_type(self, name: str) -> pa.DataType:
        """int64 if all files' values are integers, else text."""
        texts = [folders[name] for folders in self.folders.values() if folders.get(name) is not None]
        return pa.int64() if all(INTEGER.fullmatch(str(text)) for text in texts) else pa.string()

    def folder_column(self, file: str, name: str, rows: int) -> pa.Array:
        """The value of a partition folder, repeated for each row."""
        kind, text = self._folder_type(name), self.folders[file][name]
        value = None if text is None else int(text) if kind == pa.int64() else text
        return pa.repeat(pa.scalar(value, kind), rows)

    def beside(self, other: FileSet) -> FileSet:
        return FileSet(
            self.rows | other.rows, self.forms | other.forms, self.schemas | other.schemas, self.folders | other.folders
        )

    @property
    def columns(self) -> dict[str, pa.DataType]:
        """Columns of the first file; empty without files."""
        return self.columns_of(next(iter(self.rows))) if self.rows else {}

    @property
    def all_rows(self) -> int:
        """Rows of all files, R."""
        return sum(self.rows.values())

    def require_same_columns(self, but: Collection[str] = ()) -> None:
        """Raises ValueError unless all files have the columns of the first one, except for `but`."""
        first, *others = self.rows
        wanted = self.columns
        for file in others:
            mine = self.columns_of(file)
            for has, lacks, there, here in ((first, file, wanted, mine), (file, first, mine, wanted)):
                more = [repr(name) for name in there if name not in here and name not in but]
                if more:
                    raise ValueError(
                        f"{has} has column {', '.join(more)}, which {lacks} lacks. Say which columns to read (--columns) or to "
                        "leave out (--skip), or write the files alike."
                    )

    def type_of(self, file: str, name: str) -> pa.DataType:
        """A column's type in one file. Raises ValueError if the file lacks the column."""
        columns = self.columns_of(file)
        if name not in columns:
            raise ValueError(f"{file} has no column {name!r}; it has {', '.join(columns)}.")
        return columns[name]

    def types(self, name: str) -> list[pa.DataType]:
        """A column's types, file by file. Raises ValueError if a file lacks the column."""
        return [self.type_of(file, name) for file in self.rows]

    def first_length(self, name: str) -> int:
        """Length of the first list that has values; 1 for a column without lists, or without values."""
        kind = self.columns[name]
        if not is_list(kind):
            return 1
        if pa.types.is_fixed_size_list(kind):
            return int(kind.list_size)
        return next((length for file in self.rows for length in self._lengths(file, name)), 1)

    def _lengths(self, file: str, name: str) -> Iterator[int]:
        """Length of the first list with values in each piece."""
        form, wanted = self.forms[file], pa.schema([self.schemas[file].field(name)])
        with reading(file, form.name):
            pieces = len(form.piece_rows(file, self.rows[file]))
        for piece in range(pieces):
            lengths = pc.list_value_length(read_piece(form, file, piece, wanted)[name])
            longer = lengths.filter(pc.greater(lengths, 0))
            if len(longer):
                yield int(longer[0].as_py())

    def target(self, name: str, role: Role) -> pa.DataType:
        """The one type that the column of this name is read as from all files.

        Raises:
          ValueError: a file lacks the column. TypeError: the role does not take its type, or files' types do not go together.
        """
        kinds: list[Kind] = []
        for file in self.rows:
            kinds.append(self._kind(file, name, role))
            if role.common(kinds) is None:
                self._refuse(name, file, role, kinds)
        common = role.common(kinds) or Kind("null", 0)
        types = [plain_type(kind) for kind in self.types(name)]
        leaf = role.target(common, types)
        if len(set(types)) == 1 and leaf_type(types[0]) == leaf:
            return types[0]
        return reduce(lambda inner, _: pa.large_list(inner), range(common.depth), leaf)

    def _kind(self, file: str, name: str, role: Role) -> Kind:
        held = self.type_of(file, name)
        kind = kind_of(held)
        if kind is None or not role.takes(kind):
            raise TypeError(
                f"column {name!r} of {file} must be {role.wanted}; got {held}{self._why(file, name)}. "
                + role.way_out(name)
            )
        return kind

    def _type_text(self, file: str, name: str) -> str:
        return f"{self.columns_of(file)[name]} in {file}{self._why(file, name)}"

    def _why(self, file: str, name: str) -> str:
        """For a CSV's column of text: the value that made it text."""
        text = name in self.schemas[file].names and pa.types.is_string(self.schemas[file].field(name).type)
        return first_text(file, name) if text and isinstance(self.forms[file], CsvFormat) else ""

    def _refuse(self, name: str, file: str, role: Role, kinds: list[Kind]) -> None:
        other = next(f for f, k in zip(self.rows, kinds, strict=False) if role.common([k, kinds[-1]]) is None)
        raise TypeError(
            f"column {name!r} is {self._type_text(other, name)} and {self._type_text(file, name)}, which do not go together. "
            + role.way_out(name)
        )


def _described(file: str, form: FileFormat) -> tuple[pa.Schema, int]:
    with reading(file, form.name):
        held, rows = form.describe(file)
    schema = split_schema(held)
    twice = [repr(name) for name, times in Counter(schema.names).items() if times > 1]
    if twice:
        raise ValueError(f"{file} has two columns named {', '.join(twice)}. Rename one when the file is written.")
    return schema, rows
