"""The Parquet file that `recis predict` writes: whole or not at all, with columns of the files that were scored.

Sizes: n rows of a piece of a file.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from recis_core.cli.aside import beside, local_of, put
from recis_core.cli.outset import check_writable
from recis_core.durable import file_mode, sync_directory
from recis_core.io.file_format import reading
from recis_core.io.file_set import FileSet
from recis_core.io.pieces import read_piece
from recis_core.io.remote_output import check_url_is_free, put_at_url
from recis_core.urls import is_url

ROWS = 1 << 16  # of a row group, where no columns are kept


def check_out(out: str, overwrite: bool) -> None:
    """Raises ValueError, FileExistsError or OSError where the file cannot be written."""
    if not out.endswith((".parquet", ".pq")):
        raise ValueError(f"--out must end in .parquet; got {out}.")
    if is_url(out):
        if overwrite:
            raise ValueError(f"--overwrite replaces a file of this machine; remove {out}, or name another.")
        check_url_is_free(out)
        check_writable("out", tempfile.gettempdir())
        return
    path = Path(out)
    if os.path.lexists(path):
        if path.is_dir():
            raise ValueError(f"--out {out} is a directory; name a file.")
        if not overwrite:
            raise _exists(out)
    if not path.parent.is_dir():
        raise ValueError(f"--out {out}: there is no directory {path.parent}. Make it first.")
    check_writable("out", str(path.parent))


def _exists(out: str) -> ValueError:
    return ValueError(f"--out {out} is there already. Name another file, or give --overwrite.")


@contextmanager
def written(out: str, schema: pa.Schema, overwrite: bool) -> Iterator[pyarrow.parquet.ParquetWriter]:
    """A writer whose file becomes `out` when all is written; an error leaves nothing.

    Raises:
      ValueError: another process made `out` meanwhile.
    """
    with beside(local_of(out)) as aside:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, file_mode()), "wb") as file:
            with pyarrow.parquet.ParquetWriter(file, schema) as writer:
                yield writer
            file.flush()
            os.fsync(file.fileno())
        if is_url(out):
            put_at_url(aside, out)
        else:
            _put(aside, Path(out), overwrite)
            sync_directory(Path(out).parent)


def _put(aside: Path, path: Path, overwrite: bool) -> None:
    if overwrite:
        aside.replace(path)
        return
    try:
        put(aside, path)
    except FileExistsError:
        raise _exists(str(path)) from None


class Kept:
    """Columns of files, as they are, with scores beside them.

    Raises:
      ValueError: a file lacks one, or it has the scores' name. TypeError: files hold it as other types than the first.
    """

    def __init__(self, files: FileSet, names: Sequence[str], score: str) -> None:
        self._files, self._names, self._score = files, list(dict.fromkeys(names)), score
        if score in self._names:
            raise ValueError(
                f"--keep-columns names {score!r}, which is the scores' own name. --score-column gives another."
            )
        for name in self._names:
            self._check(name)
        kept = [pa.field(name, files.columns[name]) for name in self._names]
        self.schema = pa.schema([*kept, pa.field(score, pa.float32(), nullable=False)])

    def _check(self, name: str) -> None:
        first, wanted = next(iter(self._files.rows)), self._files.columns.get(name)
        for file in self._files.rows:
            found = self._files.columns_of(file).get(name)
            if found is None:
                raise ValueError(
                    f"{file} has no column {name!r} for --keep-columns; it has {', '.join(self._files.columns_of(file))}."
                )
            if found != wanted:
                raise TypeError(
                    f"column {name!r} is {wanted} in {first} and {found} in {file}; --keep-columns writes one type. Cast it "
                    "when the file is written, or leave it out."
                )

    def beside(self, scores: Iterator[np.ndarray]) -> Iterator[pa.Table]:
        """Tables of `schema`, of all rows in order."""
        queue = _Queue(scores)
        for columns, n in self._pieces():
            score = pa.array(queue.take(n), pa.float32())
            yield pa.table([*columns, score], schema=self.schema)

    def _pieces(self) -> Iterator[tuple[list[pa.ChunkedArray], int]]:
        """(kept columns, n)"""
        for file, rows in self._files.rows.items():
            if not self._names:
                yield from (([], min(ROWS, rows - begin)) for begin in range(0, rows, ROWS))
                continue
            form = self._files.forms[file]
            held = [name for name in self._names if name in self._files.schemas[file].names]
            wanted = pa.schema([self._files.schemas[file].field(name) for name in held])
            with reading(file, form.name):
                sizes = form.piece_rows(file, rows)
            for piece, n in enumerate(sizes):
                table = read_piece(form, file, piece, wanted) if held else None
                yield [self._column(file, name, table, n) for name in self._names], n

    def _column(self, file: str, name: str, table: pa.Table | None, n: int) -> pa.ChunkedArray:
        if table is not None and name in table.column_names:
            return table[name].cast(self.schema.field(name).type)
        return pa.chunked_array([self._files.folder_column(file, name, n)])


class _Queue:
    """Scores of batches, taken in other numbers."""

    def __init__(self, batches: Iterator[np.ndarray]) -> None:
        self._batches, self._left = batches, np.zeros(0, np.float32)

    def take(self, n: int) -> np.ndarray:
        parts = [self._left]
        while sum(map(len, parts)) < n:
            parts.append(next(self._batches))
        scores = np.concatenate(parts)
        self._left = scores[n:]
        return scores[:n]
