"""A filter by a pyarrow expression, applied to rows as they are read; Parquet row groups that cannot match are not read.

Sizes: n rows.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from functools import reduce
from operator import and_

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recis_core.io.file_format import ParquetFormat
from recis_core.io.file_set import FileSet
from recis_core.io.file_systems import arrow_file

ROW = "__recis_row__"


class ScanFilter:
    """columns: those that the expression reads."""

    def __init__(self, expressions: list[pc.Expression], files: FileSet) -> None:
        self._expression = reduce(and_, expressions)
        self.columns = columns_of(self._expression, files)
        self._pieces: dict[str, Collection[int]] = {}
        self._lock = threading.Lock()

    def pieces(self, files: FileSet, path: str) -> Collection[int]:
        """The pieces of a file that may hold rows that match."""
        with self._lock:
            if path not in self._pieces:
                self._pieces[path] = self._matching(files, path)
            return self._pieces[path]

    def _matching(self, files: FileSet, path: str) -> Collection[int]:
        if not isinstance(files.forms[path], ParquetFormat) or set(self.columns) - set(files.schemas[path].names):
            return range(1 << 62)
        import pyarrow.dataset  # imports pandas, where that is installed

        with arrow_file(path) as file:
            fragment = pyarrow.dataset.ParquetFileFormat().make_fragment(file)
            return {group.id for group in fragment.subset(self._expression).row_groups}

    def kept(self, table: pa.Table, path: str) -> np.ndarray:
        """int64: the numbers of the rows that match."""
        narrow = table.select(self.columns).append_column(ROW, pa.array(np.arange(len(table))))
        try:
            found = narrow.filter(self._expression)[ROW]
        except pa.ArrowException as error:
            raise ValueError(f"{path} cannot be filtered by {self._expression}: {error}.") from None
        return found.to_numpy()


def columns_of(expression: pc.Expression, files: FileSet) -> list[str]:
    """The columns that an expression reads.

    Raises:
      ValueError: the first file lacks one of them, or its columns are of types that the expression does not take.
    """
    file = next(iter(files.rows))
    empty = pa.schema(list(files.columns_of(file).items())).empty_table()
    try:
        empty.filter(expression)
    except pa.ArrowException as error:
        what = str(error).partition(" in ")[0]
        raise ValueError(
            f"{file} cannot be filtered by {expression}: {what}. It has {', '.join(empty.column_names)}."
        ) from None
    return [name for name in empty.column_names if not _applies(expression, empty.drop_columns([name]))]


def _applies(expression: pc.Expression, table: pa.Table) -> bool:
    try:
        table.filter(expression)
    except pa.ArrowException:
        return False
    return True
