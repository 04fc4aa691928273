"""Columns of Parquet and ORC files as batches of features.

Sizes: R rows of all files, n rows of a batch.
"""

from __future__ import annotations

import copy
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from recis_core.io.arrow_format import ArrowFormat
from recis_core.io.batch_rows import Batch
from recis_core.io.batching import ByCost, Full, Given, Sizes, batch_sizes, cut, remaining, share_sizes
from recis_core.io.csv_format import CsvFormat
from recis_core.io.file_format import FileFormat, OrcFormat, ParquetFormat, reading
from recis_core.io.file_marks import SavedOrder
from recis_core.io.file_position import FilePosition
from recis_core.io.file_reader import FileReader, require_rows
from recis_core.io.file_set import FileSet
from recis_core.io.formats import SUFFIXES, format_of_all
from recis_core.io.part_stream import read_rows
from recis_core.io.paths import expand
from recis_core.io.position import Position
from recis_core.io.row_order import RowOrder, window
from recis_core.io.scan_filter import ScanFilter, columns_of
from recis_core.io.windows import Windows, by_column, by_files, by_pattern, by_rows, in_order_of


class FileDataset(FilePosition):
    """Batches {feature: RaggedTensor or Tensor} from files; see ParquetDataset, OrcDataset, CsvDataset, ArrowDataset.

    Files may differ in the width of integers and floats, in nullability, in the type of lists, and in the order of
    columns; all are read as one type. Errors name file, column and row, counted from 0.

    Args, beside those of Dataset:
      read_threads_num: row groups or stripes decoded at once.
      shuffle, seed: permute files, their row groups or stripes, and rows inside these, anew each epoch.
      shuffle_buffer: then permute each run of so many rows, across row groups and files; 0 does not. Also without `shuffle`.
      ragged_format: variable-length features as RaggedTensor; False gives torch.sparse_coo tensors.
      dtype: of floating columns; None keeps each column's dtype. Integers are int64.
    """

    form: FileFormat

    def __init__(
        self,
        batch_size: int,
        worker_idx: int = 0,
        worker_num: int = 1,
        *,
        read_threads_num: int = 2,
        prefetch: int = 1,
        drop_remainder: bool = False,
        shuffle: bool = False,
        seed: int = 0,
        shuffle_buffer: int = 0,
        ragged_format: bool = True,
        transform_fn: Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None = None,
        dtype: torch.dtype | None = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__(
            batch_size,
            worker_idx,
            worker_num,
            prefetch=prefetch,
            drop_remainder=drop_remainder,
            ragged_format=ragged_format,
            transform_fn=transform_fn,
            dtype=dtype,
            device=device,
            shuffle_seed=seed if shuffle else None,
            shuffle_buffer=shuffle_buffer,
            buffer_seed=seed if shuffle_buffer else None,
        )
        if read_threads_num < 1:
            raise ValueError(f"read_threads_num must be at least 1; got {read_threads_num}.")
        if shuffle_buffer < 0:
            raise ValueError(f"shuffle_buffer must be >= 0 rows; got {shuffle_buffer}.")
        self.read_threads_num = read_threads_num
        self._expressions: list[pc.Expression] = []
        self._cost: tuple[list[str], int, int | None, bool] | None = None
        self._piece_rows: dict[str, list[int]] = {}

    def add_path(self, path: str | os.PathLike[str]) -> None:
        """Add a file, or the files of a folder or glob in sorted order. A call that raises adds none.

        Partition folders inside the folder or glob, such as year=2024/part-0.parquet, become columns.

        Raises:
          FileNotFoundError: path names no file.
          ValueError: a file is damaged, was added before, or lacks a column that is read.
          TypeError: a column that is read has an unreadable type, or its type does not go with that of other files.
        """
        if self._window is not None:
            raise ValueError("add_path must come before window, which counts rows of all files.")
        self.use_files(self.files.added(path, self.form))

    def use_files(self, files: FileSet) -> None:
        """Read these files; other datasets may share them."""
        targets = {feature.name: feature.targets(files) for feature in self._features.values()}
        self.files, self._targets = files, targets

    def add_paths(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        """`add_path` of each."""
        for path in paths:
            self.add_path(path)

    def filter(self, predicate: Callable[[Any], Any] | pc.Expression) -> FileDataset:
        """Keep the rows for which a pyarrow expression of the files' columns is true, or batches or rows by a function.

            dataset.filter((pc.field("day") >= 20240301) & pc.field("country").isin(["de", "fr"]))

        An expression is applied to rows as they are read, before all functions, so that batches are full; Parquet row groups
        whose statistics say that no row matches are not read. Workers may then have different numbers of batches. Positions
        count the rows of the files, also those left out. A function gets batches: see `Dataset.filter`. Returns self.

        Raises:
          ValueError: the files lack a column of the expression, or it is of a type that the expression does not take.
        """
        if not isinstance(predicate, pc.Expression):
            super().filter(predicate)
            return self
        if self.files.rows:
            columns_of(predicate, self.files)
        self._expressions = [*self._expressions, predicate]
        return self

    def batch_by_cost(
        self, columns: Sequence[str], budget: int, *, most_rows: int | None = None, oversize: str = "alone"
    ) -> FileDataset:
        """Fill a batch by the ids in its rows: with as many rows as hold at most `budget` ids of these features together.

        So batches of long sequences have few rows, and cost about the same. Workers may have different numbers of batches;
        `drop_remainder` drops a worker's last batch. batch_size is not used. Returns self.

        Args:
          columns: names of features. budget: ids a batch. most_rows: rows a batch, at most; None for any number.
          oversize: "alone": a row with more ids is a batch of its own; "error": it raises ValueError.
        """
        if not columns or budget < 1 or (most_rows is not None and most_rows < 1) or oversize not in ("alone", "error"):
            raise ValueError(
                "batch_by_cost takes names of features, budget >= 1, most_rows >= 1 or None, and oversize 'alone' or 'error'; "
                f"got {columns!r}, {budget}, {most_rows} and {oversize!r}."
            )
        self._cost = list(columns), budget, most_rows, oversize == "alone"
        return self

    @property
    def columns(self) -> dict[str, pa.DataType]:
        """Columns of the first file, {column: Arrow type}; empty before `add_path`."""
        return self.files.columns

    @property
    def rows(self) -> int:
        """Rows of all workers together: those of the window, or of all files."""
        begin, end = self._window or (0, self._all_rows)
        return end - begin

    @property
    def _all_rows(self) -> int:
        return self.files.all_rows

    def window(self, begin: int, end: int) -> None:
        """Read only rows begin .. end of all files, in the order of adding: for instance, train on one window, test on the next.

        Workers divide the window; shuffling stays inside it. Add all paths first.
        """
        if not 0 <= begin <= end <= self._all_rows:
            raise ValueError(f"a window must lie in the {self._all_rows} rows there are; got {begin} to {end}.")
        self._window = begin, end

    def windowed(self, begin: int, end: int, where: pc.Expression | None = None) -> FileDataset:
        """A data set like this, of rows begin .. end alone, and of those of them where an expression is true."""
        other = copy.copy(self)
        for name in ("_steps", "_declared", "_as_sparse", "_expressions"):
            setattr(other, name, copy.copy(getattr(self, name)))
        other._position, other._loaded, other._saved_order = Position(), [], SavedOrder()
        other.window(begin, end)
        return other if where is None else other.filter(where)

    def windows(
        self,
        *,
        files: int | None = None,
        rows: int | None = None,
        pattern: str | None = None,
        column: str | None = None,
        train_last: bool = False,
    ) -> Windows:
        """This data set in windows: pairs of data sets, to train on one and test on the next.

            windows = dataset.windows(pattern="day=([0-9-]+)")
            for train, test in windows: ...      # day 1 and 2, then day 2 and 3, …; the last day is for the test alone

        Both have features, functions, filters and shuffles as this one has now. `windows.state_dict()` resumes at a window's
        end, and inside. Say how windows are made, by one of:

        Args:
          files: so many files. rows: so many rows. The last window may have fewer.
          pattern: what a regular expression finds in a file's path (its first group, if it has one), in rising order.
          column: a column's value, in rising order; rows of a value may lie anywhere.
          train_last: also a pair of the last window and an empty test.

        Raises:
          ValueError: none or several of these are given, the data set has a window already, the pattern is not in a path, or
            the column has nulls or is not there.
        """
        ways = {"files": files, "rows": rows, "pattern": pattern, "column": column}
        given = [name for name, value in ways.items() if value is not None]
        if (
            len(given) != 1
            or (files is not None and files < 1)
            or (rows is not None and rows < 1)
            or self._window is not None
        ):
            raise ValueError(
                "windows takes one of files >= 1, rows >= 1, pattern and column, of a data set without a window; got "
                f"{', '.join(given) or 'none'}{'' if self._window is None else ', with a window'}."
            )
        self._check_ready()
        if pattern is not None:
            source = copy.copy(self)
            source.files = in_order_of(self.files, pattern)
            return Windows(source, by_pattern(source.files, pattern), train_last)
        if column is not None:
            return Windows(self, by_column(self.files, column, self._rows_of_pieces), train_last)
        made = by_files(self.files, files) if files is not None else by_rows(self.rows, rows or 1)
        return Windows(self, made, train_last)

    def __len__(self) -> int:
        """Batches of this worker in an epoch, of which nothing was done when it began, before any filter by a function.

        Raises:
          TypeError: their number depends on what rows hold.
        """
        if self._expressions or self._cost:
            raise TypeError(
                "the number of batches is not known before they are read, with an expression or batch_by_cost."
            )
        return len(self._given(Position().cut_for(self._who)))

    def _given(self, position: Position) -> list[int]:
        """The sizes of batches that are left where they do not depend on what rows hold."""
        shares = share_sizes(self.rows - position.done.count, position.cuts)
        return remaining(batch_sizes(*shares, self.batch_size, self.drop_remainder), position.cuts[-1].rows)

    def _sizes(self, position: Position) -> Sizes:
        if self._cost is not None:
            return ByCost(*self._cost, self.drop_remainder)
        if self._expressions:
            return Full(self.batch_size, self.drop_remainder)
        return Given(deque(self._given(position)))

    def _batches(self, position: Position) -> Iterator[tuple[Batch, int]]:
        self._check_ready()
        chosen = ScanFilter(self._expressions, self.files) if self._expressions else None
        reader = FileReader(self.files, tuple(self._features.values()), self._targets, chosen)
        left = position.left(self.rows, self._share_of)
        if not self._cost and not self._expressions:
            left = left.part(0, sum(self._given(position)))
        with closing(read_rows(self._order(position.epoch), left, reader, self.read_threads_num)) as reads:
            for batch, rows in cut(reads, self._sizes(position)):
                yield self._sparse(self._shared(batch)), rows

    def _order(self, epoch: int) -> RowOrder:
        rows = [{path: self.files.rows[path] for path in group} for group in self._groups]
        spans = [window(rows[0], *(self._window or (0, sum(rows[0].values()))))]
        spans += [window(later, 0, sum(later.values())) for later in rows[1:]]
        return RowOrder(spans, self._rows_of_pieces, self._seed, epoch, self._buffer, self._buffer_seed or 0)

    def _rows_of_pieces(self, path: str) -> list[int]:
        if path not in self._piece_rows:
            form = self.files.forms[path]
            with reading(path, form.name):
                pieces = form.piece_rows(path, self.files.rows[path])
            require_rows(path, sum(pieces), self.files.rows[path])
            self._piece_rows[path] = pieces
        return self._piece_rows[path]

    def _sparse(self, batch: Batch) -> Any:
        return {name: column.to_sparse() if name in self._as_sparse else column for name, column in batch.items()}

    def _check_ready(self) -> None:
        if not self.files.rows:
            raise ValueError(f"{type(self).__name__} has no files to read; call add_path first.")
        if not self._features:
            raise ValueError(
                f"{type(self).__name__} reads no columns; call varlen_feature, fixedlen_feature or id_feature first."
            )


class ParquetDataset(FileDataset):
    """Batches from Parquet files.

        dataset = ParquetDataset(batch_size=1024, worker_idx=rank, worker_num=world)
        dataset.add_path("clicks/*.parquet")
        dataset.label_feature("click")
        dataset.id_feature("item")
        for batch in dataset: ...        # {"click": Tensor [n], "item": RaggedTensor of n rows}

    Workers read contiguous runs of rows, whose sizes differ by one at most, and give the same number of batches.
    """

    form = ParquetFormat()


class OrcDataset(FileDataset):
    """Batches from ORC files; used as ParquetDataset."""

    form = OrcFormat()


class CsvDataset(FileDataset):
    """Batches from CSV and TSV files with a line of names, compressed or not; used as ParquetDataset.

    A file is read whole: once for its types, when it is added, and once an epoch. An empty cell is null.
    """

    form = CsvFormat()


class ArrowDataset(FileDataset):
    """Batches from Arrow IPC files, such as Feather, and streams; used as ParquetDataset. A stream is read whole."""

    form = ArrowFormat()


def dataset_of(path: str | os.PathLike[str]) -> type[FileDataset]:
    """The dataset class for files that a path, glob or folder names, by their suffix.

    Raises:
      FileNotFoundError: path names no file. ValueError: a suffix is unknown, or files have different formats.
    """
    form = format_of_all(list(expand(path, SUFFIXES)))
    return next(
        kind for kind in (ParquetDataset, OrcDataset, CsvDataset, ArrowDataset) if isinstance(form, type(kind.form))
    )
