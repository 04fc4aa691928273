"""Reads pieces of files, prepares their columns, and makes batches of features.

Sizes: n rows.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import pyarrow as pa

from recis_core.io.feature import Feature, Use
from recis_core.io.file_format import reading
from recis_core.io.file_set import FileSet
from recis_core.io.kinds import leaf_type
from recis_core.io.leaves import decoded, one_array
from recis_core.io.pieces import read_piece
from recis_core.io.roles import Ids
from recis_core.io.rows import Rows, located
from recis_core.io.wrapped import say_if_wrapped


def _hashed(use: Use) -> bool:
    """Whether ids are the hashes of each value's text."""
    return isinstance(use.role, Ids) and use.role.text


class FileReader:
    """Reads features in one pass over files. A prepared table has one column for each use, named by its number."""

    def __init__(self, files: FileSet, features: tuple[Feature, ...]) -> None:
        self._files, self._features = files, features
        targets = [target for feature in features for target in feature.targets(files)]
        self._uses = list(zip((use for feature in features for use in feature.uses), targets, strict=True))

    def piece_rows(self, path: str) -> list[int]:
        form = self._files.forms[path]
        with reading(path, form.name):
            return form.piece_rows(path, self._files.rows[path])

    def read_piece(self, path: str, piece: int) -> pa.Table:
        """The columns in use, with those of partition folders."""
        form, wanted = self._files.forms[path], self._wanted[path]
        table = read_piece(form, path, piece, wanted)
        for name in self._files.folders[path]:
            if name not in table.column_names:
                table = table.append_column(name, self._files.folder_column(path, name, len(table)))
        return table

    @cached_property
    def _wanted(self) -> dict[str, pa.Schema]:
        return {path: self._schema(path) for path in self._files.rows}

    def _schema(self, path: str) -> pa.Schema:
        """The columns to read from a file; a column that is hashed as text is read as text."""
        held = self._files.schemas[path]
        texts = {use.column for use, _ in self._uses if _hashed(use)}
        names = dict.fromkeys(use.column for use, _ in self._uses if use.column in held.names)
        return pa.schema([held.field(n).with_type(pa.string()) if n in texts else held.field(n) for n in names])

    def prepare(self, rows: Rows) -> Rows:
        """One column for each use, of the use's target type.

        Raises:
          ValueError: a value cannot be read, with file, column and row.
        """
        arrays = [self._prepared(rows, use, target) for use, target in self._uses]
        columns = [str(number) for number in range(len(arrays))]
        return Rows(pa.table(dict(zip(columns, arrays, strict=True))), rows.origins)

    def _prepared(self, rows: Rows, use: Use, target: pa.DataType) -> pa.Array:
        try:
            return self._as_target(rows, use, target)
        except pa.ArrowException as error:
            path, kind = rows.origins[0][0], rows.table.schema.field(use.column).type
            raise ValueError(f"{path}, column {use.column!r} of {kind} cannot be read: {error}.") from None

    def _as_target(self, rows: Rows, use: Use, target: pa.DataType) -> pa.Array:
        array = decoded(one_array(rows.table[use.column]))
        if pa.types.is_null(array.type):  # in other files the column may hold lists
            array = array.cast(target)
        if leaf_type(target) == pa.int64() and not _hashed(use):
            say_if_wrapped(array, rows.place, use.column)
        with located(rows.place, use.column):
            prepared = use.role.prepare(array, leaf_type(target))
        return prepared if prepared.type == target else prepared.cast(target)

    def batch(self, rows: Rows) -> dict[str, Any]:
        batch, number = {}, 0
        for feature in self._features:
            arrays = [one_array(rows.table[str(number + n)]) for n in range(len(feature.uses))]
            with located(rows.place, feature.name):
                batch[feature.name] = feature.convert(*arrays)
            number += len(arrays)
        return batch
