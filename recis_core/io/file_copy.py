"""Copies files into others: another format, fewer columns, other sizes, sorted or clustered."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pyarrow as pa

from recis_core.backends.errors import RecisError
from recis_core.io.external_sort import ExternalSort, group_starts
from recis_core.io.file_format import reading
from recis_core.io.file_writers import Write, storable, written
from recis_core.io.formats import format_of
from recis_core.io.whole_files import WholeFiles, as_type

Names = Callable[[int], str]


@dataclass(frozen=True)
class Copy:
    """ending: of the files to write, ".parquet". rows_per_file: None for one file. order: columns to sort by. whole_groups:
    rows of equal `order` are not parted between files. memory: bytes for sorting."""

    ending: str
    rows_per_file: int | None = None
    order: Sequence[str] = ()
    whole_groups: bool = False
    memory: int = 1 << 30

    def write(self, source: WholeFiles, names: Names, scratch: str, show_rows: Callable[[int], None]) -> list[str]:
        """Writes all rows; returns the files, named by `names(number)`. scratch: a folder for runs of the sort.

        Raises:
          ValueError: the format does not hold a column, or a value; a file cannot be read. RecisError: rows were lost.
        """
        schema = storable(source.schema, self.ending)
        shards = Shards(names, schema, self.ending, self.rows_per_file, self.order if self.whole_groups else ())
        rows = 0
        with shards.stack:
            for table in self._ordered(_typed(source, schema), scratch):
                with self._holding():
                    shards.write(table)
                show_rows(rows := rows + len(table))
            with self._holding():
                shards.finish()
        self._count(source, shards.files)
        return shards.files

    def _ordered(self, tables: Iterable[pa.Table], scratch: str) -> Iterator[pa.Table]:
        if not self.order:
            yield from tables
            return
        yield from ExternalSort(self.order, scratch, self.memory).sorted(tables)

    @contextmanager
    def _holding(self) -> Iterator[None]:
        try:
            yield
        except pa.ArrowNotImplementedError as error:
            form = format_of(self.ending).name
            raise ValueError(f"{form} does not hold all columns: {error}. Leave them out (--columns).") from None

    def _count(self, source: WholeFiles, files: list[str]) -> None:
        form, rows = format_of(self.ending), 0
        for file in files:
            with reading(file, form.name):
                rows += form.describe(file)[1]
        if rows != source.files.all_rows:
            raise RecisError(
                f"{source.files.all_rows:,} rows were written to {form.name}, and {rows:,} can be read: nothing is kept. A CSV "
                "of one column has no line for a null; convert to another format."
            )


def _typed(source: WholeFiles, schema: pa.Schema) -> Iterator[pa.Table]:
    for file, table in source.named_tables():
        columns = [as_type(table[field.name], field, file) for field in schema]
        yield pa.table(columns, schema=schema)


class Shards:
    """Files of at most `limit` rows, one after another; with `groups`, of more, so that equal rows stay in one."""

    def __init__(self, names: Names, schema: pa.Schema, ending: str, limit: int | None, groups: Sequence[str]) -> None:
        self._names, self._schema, self._ending, self._limit, self._groups = names, schema, ending, limit, groups
        self._write: Write | None = None
        self._rows, self._last = 0, schema.empty_table()
        self.files: list[str] = []
        self.stack = ExitStack()

    def write(self, table: pa.Table) -> None:
        cuts, at = self._cuts(table), 0
        while at < len(table):
            end = self._end(at, len(table), cuts)
            if end > at:
                self._append(table.slice(at, end - at))
            if end < len(table):
                self._close()
            at = end

    def _cuts(self, table: pa.Table) -> list[int]:
        """Rows before which a file may end."""
        if not self._groups or not len(table):
            return []
        known = len(self._last)
        starts = group_starts(pa.concat_tables([self._last, table]), self._groups)
        self._last = table.slice(len(table) - 1)
        return [row - known for row in starts]

    def _end(self, at: int, rows: int, cuts: list[int]) -> int:
        if self._limit is None:
            return rows
        full = at + self._limit - self._rows
        return min(full, rows) if not self._groups else next((cut for cut in cuts if cut >= full), rows)

    def _append(self, table: pa.Table) -> None:
        if self._write is None:
            self.files.append(self._names(len(self.files)))
            self._write = self.stack.enter_context(written(self.files[-1], self._schema, self._ending))
        self._write(table)
        self._rows += len(table)

    def _close(self) -> None:
        self.stack.close()
        self._write, self._rows = None, 0

    def finish(self) -> None:
        if not self.files:
            self._append(self._schema.empty_table())
        self._close()


def folder_names(folder: str, ending: str) -> Names:
    return lambda number: os.path.join(folder, f"part-{number:05d}{ending}")
