"""The values of a column, and where in the files each begins and ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from recis_core.io.file_set import FileSet
from recis_core.io.kinds import kind_of
from recis_core.io.leaves import decoded, one_array
from recis_core.io.pieces import read_piece

MOST = 10_000


def distinct_values(
    files: FileSet, column: str, rows_of_pieces: Callable[[str], list[int]]
) -> dict[Any, tuple[int, int]]:
    """{value: (its first row, the row after its last)}, counted over all files.

    Raises:
      ValueError: a file lacks the column, or a row has no value, or there are more than 10,000 values. TypeError: it holds
        lists or structs.
    """
    found: dict[Any, tuple[int, int]] = {}
    at = 0
    for path, rows in files.rows.items():
        kind = kind_of(files.type_of(path, column))
        if kind is None or kind.depth:
            raise TypeError(
                f"windows need a column of single values; {column!r} of {path} is {files.type_of(path, column)}."
            )
        for values, begin in _pieces(files, path, column, rows, rows_of_pieces):
            _add(found, values, at + begin, path, column, begin)
        at += rows
    return found


def _pieces(files: FileSet, path: str, column: str, rows: int, rows_of_pieces: Callable[[str], list[int]]) -> Any:
    if column not in files.schemas[path].names:
        yield files.folder_column(path, column, rows), 0
        return
    form, wanted, begin = files.forms[path], pa.schema([files.schemas[path].field(column)]), 0
    for piece, count in enumerate(rows_of_pieces(path)):
        yield decoded(one_array(read_piece(form, path, piece, wanted)[column])), begin
        begin += count


def _add(found: dict[Any, tuple[int, int]], values: pa.Array, at: int, path: str, column: str, begin: int) -> None:
    if values.null_count:
        row = begin + int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
        raise ValueError(
            f"{path}, column {column!r}, row {row} (the first is 0): windows need a value in every row; this one is null. "
            "Give it one when the file is written."
        )
    encoded = values.dictionary_encode()
    codes = encoded.indices.to_numpy()
    present, first = np.unique(codes, return_index=True)
    last = len(codes) - np.unique(codes[::-1], return_index=True)[1]
    for code, begin_of, end_of in zip(present.tolist(), first.tolist(), last.tolist(), strict=True):
        value = encoded.dictionary[code].as_py()
        earlier, later = found.get(value, (at + begin_of, 0))
        found[value] = earlier, max(later, at + end_of)
    if len(found) > MOST:
        raise ValueError(f"column {column!r} has more than {MOST} values; windows need one with fewer, such as a date.")
