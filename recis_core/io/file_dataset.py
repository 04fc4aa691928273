"""Columns of Parquet and ORC files as batches of features.

Sizes: R rows of all files, n rows of a batch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import torch

from recis_core.io.arrow_format import ArrowFormat
from recis_core.io.batching import batch_sizes, remaining, worker_rows
from recis_core.io.csv_format import CsvFormat
from recis_core.io.dataset import Batch, Dataset
from recis_core.io.feature import Feature, dense, fixed_length, ids, label, probability, variable_length
from recis_core.io.file_format import FileFormat, OrcFormat, ParquetFormat
from recis_core.io.file_reader import FileReader
from recis_core.io.file_set import FileSet
from recis_core.io.formats import SUFFIXES, format_of_all
from recis_core.io.maps import KEYS, VALUES
from recis_core.io.nulls import rule
from recis_core.io.paths import expand
from recis_core.io.roles import Ids
from recis_core.io.row_order import RowOrder, cut, read_rows, window
from recis_core.ragged import RaggedTensor


class FileDataset(Dataset):
    """Batches {feature: RaggedTensor or Tensor} from files; see ParquetDataset, OrcDataset, CsvDataset, ArrowDataset.

    Files may differ in the width of integers and floats, in nullability, in the type of lists, and in the order of
    columns; all are read as one type. Errors name file, column and row, counted from 0.

    Args, beside those of Dataset:
      read_threads_num: row groups or stripes decoded at once.
      shuffle, seed: permute files, their row groups or stripes, and rows inside these, anew each epoch.
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
            transform_fn=transform_fn,
            device=device,
        )
        if read_threads_num < 1:
            raise ValueError(f"read_threads_num must be at least 1; got {read_threads_num}.")
        self.read_threads_num, self.ragged_format, self.dtype = read_threads_num, ragged_format, dtype
        self._seed = seed if shuffle else None
        self._window: tuple[int, int] | None = None
        self.files = FileSet()
        self._features: dict[str, Feature] = {}

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
        for feature in self._features.values():
            feature.targets(files)
        self.files = files

    def add_paths(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        """`add_path` of each."""
        for path in paths:
            self.add_path(path)

    def varlen_feature(
        self,
        name: str,
        hash_type: str | None = None,
        hash_bucket: int = 0,
        *,
        unit: str | None = None,
        null: str = "drop",
        default: float | str | bytes | None = None,
    ) -> None:
        """Read a column as rows of any length: lists, numbers (rows of one), text (bytes, one more level).

        Dates, times and timestamps become integers, as in id_feature; decimals floats. RecIS's hash_type and hash_bucket
        raise: id_feature gives ids of text.

        Args:
          unit: of dates, timestamps, times and durations: "ns", "us", "ms", "s", "min", "hour" or "day", rounded down.
          null: "drop": a null is left out, in lists too, and a null list is empty. "error": a null raises.
          default: what a null becomes; a null list becomes a list of it. Of text str or bytes.
        """
        if hash_type is not None or hash_bucket:
            raise ValueError(
                f"varlen_feature({name!r}) reads text as bytes and hashes nothing; got hash_type={hash_type!r}, "
                f"hash_bucket={hash_bucket}. Use id_feature({name!r}), or hash_strings of what varlen_feature gives."
            )

        def finish(ragged: RaggedTensor) -> Any:
            return ragged if self.ragged_format else ragged.to_sparse()

        self._add(variable_length(name, self.dtype, finish, unit, rule(name, null, default)))

    def fixedlen_feature(
        self, name: str, default_value: float | Sequence[float], *, unit: str | None = None, null: str = "default"
    ) -> None:
        """Read a column as a tensor [n, len(default_value)], [n] for a number; empty and null rows get the default.

        A null inside a list gets the default's value of that place. null="error": a null raises. unit: as in varlen_feature.

        Raises:
          TypeError, ValueError: the default is no number, or the column cannot hold it, such as nan for integers.
        """
        self._add(fixed_length(name, default_value, self.dtype, unit, rule(name, null, None, "default")))

    def id_feature(
        self,
        name: str,
        weight: str | None = None,
        *,
        text: bool = False,
        whole: bool = False,
        unit: str | None = None,
        null: str = "drop",
        default: int | str | bytes | None = None,
    ) -> None:
        """Read a column as rows of int64 ids, one value or a list a row.

        Integers stay (uint64 keeps its bits: 2**63 and more become negative, which is said once), bools become 0 and 1, text
        is hashed by hash_strings, dates become days since 1970, timestamps, times and durations microseconds, rounded down.
        Whole decimals stay; others become the hash of their text.

        Args:
          weight: a column of floats, one for each id of a row; the RaggedTensor then has weights.
          text: hash the text of each value, of any kind, so that 1 in one file and "1" in another are equal.
          whole: accept floats that are whole numbers, as pandas writes integers with nulls.
          unit: of dates, timestamps, times and durations: "ns", "us", "ms", "s", "min", "hour" or "day", rounded down.
          null: "drop": a null is left out, in lists too. "error": a null raises.
          default: the id of nulls, or a text whose hash it is; a null list becomes a list of it.

        Raises:
          TypeError: the column holds floats, nested lists or structs, or its kind does not go with that of other files.
          ValueError, while reading: a row has more weights than ids, or fewer; names file, column and row.
        """
        self._add(ids(name, weight, Ids(text, whole, unit), rule(name, null, default)))

    def map_feature(self, name: str, *, weighted: bool = False, null: str = "drop") -> None:
        """Read a column of maps as two features with the same offsets: NAME.keys, as ids, and NAME.values, as varlen_feature.

        The two are columns for every other method, too: id_feature("prices.values"). weighted: values are the keys' weights,
        and NAME.keys is the only feature.
        """
        keys, values = name + KEYS, name + VALUES
        self.id_feature(keys, values if weighted else None, null=null)
        if not weighted:
            self.varlen_feature(values, null=null)

    def dense_feature(self, name: str, width: int = 1, *, null: str = "default", default: float | None = None) -> None:
        """Read a column of numbers as floats [n, width]; null and NaN become the default, 0, an infinite value raises.

        null="error": null and NaN raise.
        """
        self._add(dense(name, width, self.dtype, rule(name, null, default, "default")))

    def label_feature(self, name: str) -> None:
        """Read a column of integers, bools or floats as labels, float32 [n]; values other than 0 and 1 raise."""
        self._add(label(name))

    def probability_feature(self, name: str) -> None:
        """Read a column of numbers in [0, 1] as float32 [n]."""
        self._add(probability(name))

    def _add(self, feature: Feature) -> None:
        if self.files.rows:
            feature.targets(self.files)
        self._features[feature.name] = feature

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

    def __len__(self) -> int:
        """Batches of this worker in an epoch, before any filter."""
        return len(self._sizes())

    def _sizes(self) -> list[int]:
        return batch_sizes(self.rows, self.worker_idx, self.worker_num, self.batch_size, self.drop_remainder)

    def _batches(self, epoch: int, rows_done: int) -> Iterator[tuple[Batch, int]]:
        self._check_ready()
        spans = window(self.files.rows, *(self._window or (0, self._all_rows)))
        reader = FileReader(self.files, tuple(self._features.values()))
        order = RowOrder(spans, reader.piece_rows, reader.read_piece, reader.prepare, self._seed, epoch)
        sizes = remaining(self._sizes(), rows_done)
        begin = worker_rows(self.rows, self.worker_idx, self.worker_num)[0] + rows_done
        parts = read_rows(order, begin, begin + sum(sizes), self.read_threads_num)
        for rows in cut(parts, sizes):
            first, last = self._shared(len(rows))
            yield reader.batch(rows.slice(first, last - first)), len(rows)

    def _check_ready(self) -> None:
        if not self.files.rows:
            raise ValueError(f"{type(self).__name__} has no files to read; call add_path first.")
        if not self._features:
            raise ValueError(
                f"{type(self).__name__} reads no columns; call varlen_feature, fixedlen_feature or id_feature first."
            )

    def _identity(self) -> dict[str, Any]:
        listing = [f"{os.path.basename(file)}:{rows}" for file, rows in self.files.rows.items()]
        digest = hashlib.sha256("\n".join(listing).encode()).hexdigest()[:16]
        return {"files": digest, "window": list(self._window or ()), "shuffle_seed": self._seed}


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
