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
from torch import Tensor

from recis_core.io.batching import batch_sizes, remaining, worker_rows
from recis_core.io.columns import fixed_column, is_readable, one_array, ragged_column
from recis_core.io.dataset import Batch, Dataset
from recis_core.io.file_format import FileFormat, OrcFormat, ParquetFormat
from recis_core.io.paths import expand
from recis_core.io.row_order import RowOrder, cut, read_tables, window
from recis_core.ragged import RaggedTensor


class FileDataset(Dataset):
    """Batches {feature: RaggedTensor or Tensor} from files; see ParquetDataset and OrcDataset.

    Args, beside those of Dataset:
      read_threads_num: row groups or stripes decoded at once.
      shuffle, seed: permute files, their row groups or stripes, and rows within one, anew each epoch.
      ragged_format: variable-length features as RaggedTensor; False gives torch.sparse_coo tensors.
      dtype: of floating columns; None keeps each column's own. Integers are int64.
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
        self._files: dict[str, int] = {}
        self._window: tuple[int, int] | None = None
        self._schemas: dict[str, pa.Schema] = {}
        self._features: dict[str, Callable[[pa.Array], Any]] = {}

    def add_path(self, path: str | os.PathLike[str]) -> None:
        """Read this file too, or the files of a folder or glob, in sorted order.

        Raises:
          FileNotFoundError: it names no file.
        """
        for file in expand(path, self.form.suffix):
            if self._window is not None:
                raise ValueError("add_path must come before window, which counts rows of all files.")
            if file in self._files:
                raise ValueError(f"{file} was added before; its rows would come twice.")
            self._schemas[file], self._files[file] = self.form.describe(file)
            self._check_features(file)

    def add_paths(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        """`add_path` of each."""
        for path in paths:
            self.add_path(path)

    def varlen_feature(self, name: str, hash_type: str | None = None, hash_bucket: int = 0) -> None:
        """Read a column as rows of any length: lists, numbers (rows of one), text (bytes, a level more); null is empty.

        RecIS's hash_type is not the reader's: give the feature a Hash op.
        """
        if hash_type is not None or hash_bucket:
            raise ValueError(
                f"varlen_feature({name!r}) reads text as bytes and hashes nothing; got hash_type={hash_type!r}, "
                f"hash_bucket={hash_bucket}. Use Feature({name!r}).add_op(Hash(...)) and Mod."
            )
        self._add_feature(name, lambda array: self._ragged(array, name))

    def fixedlen_feature(self, name: str, default_value: float | Sequence[float]) -> None:
        """Read a column as a tensor [n, len(default_value)], [n] for a number; empty and null rows are the default."""
        self._add_feature(name, lambda array: fixed_column(array, default_value, self.dtype, name))

    def _ragged(self, array: pa.Array, name: str) -> RaggedTensor | Tensor:
        ragged = ragged_column(array, self.dtype, name)
        return ragged if self.ragged_format else ragged.to_sparse()

    def _add_feature(self, name: str, convert: Callable[[pa.Array], Any]) -> None:
        self._features[name] = convert
        for file in self._files:
            self._check_features(file)

    def _check_features(self, file: str) -> None:
        schema = self._schemas[file]
        for name in self._features:
            if name not in schema.names:
                raise ValueError(f"{file} has no column {name!r}; it has {', '.join(schema.names)}.")
            kind = schema.field(name).type
            if not is_readable(kind):
                raise TypeError(
                    f"column {name!r} of {file} must be numbers, text, or lists of them; got {kind}. "
                    "Cast it when the file is written."
                )

    @property
    def columns(self) -> dict[str, pa.DataType]:
        """What the first file holds, {column: Arrow type}; empty before `add_path`."""
        schema = next(iter(self._schemas.values()), pa.schema([]))
        return {field.name: field.type for field in schema}

    @property
    def rows(self) -> int:
        """Rows of all workers together: of the window, or of all files."""
        begin, end = self._window or (0, self._all_rows)
        return end - begin

    @property
    def _all_rows(self) -> int:
        return sum(self._files.values())

    def window(self, begin: int, end: int) -> None:
        """Read only rows begin .. end of all files, in the order they were added: train on one, test on the next.

        Workers share the window; shuffling stays inside it. Add all paths first.
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
        spans = window(self._files, *(self._window or (0, self._all_rows)))
        order = RowOrder(self.form, spans, list(self._features), self._seed, epoch)
        sizes = remaining(self._sizes(), rows_done)
        begin = worker_rows(self.rows, self.worker_idx, self.worker_num)[0] + rows_done
        tables = read_tables(order, begin, begin + sum(sizes), self.read_threads_num)
        for table in cut(tables, sizes):
            first, last = self._shared(len(table))
            yield self._converted(table.slice(first, last - first)), len(table)

    def _check_ready(self) -> None:
        if not self._files:
            raise ValueError(f"{type(self).__name__} has no files to read; call add_path first.")
        if not self._features:
            raise ValueError(f"{type(self).__name__} reads no columns; call varlen_feature or fixedlen_feature first.")

    def _converted(self, table: pa.Table) -> Batch:
        return {name: convert(one_array(table[name])) for name, convert in self._features.items()}

    def _identity(self) -> dict[str, Any]:
        listing = [f"{os.path.basename(file)}:{rows}" for file, rows in self._files.items()]
        digest = hashlib.sha256("\n".join(listing).encode()).hexdigest()[:16]
        return {"files": digest, "window": list(self._window or ()), "shuffle_seed": self._seed}


class ParquetDataset(FileDataset):
    """Batches from Parquet files.

        dataset = ParquetDataset(batch_size=1024, worker_idx=rank, worker_num=world)
        dataset.add_path("clicks/*.parquet")
        dataset.fixedlen_feature("label", default_value=[0.0])
        dataset.varlen_feature("item")
        for batch in dataset: ...        # {"label": Tensor [n, 1], "item": RaggedTensor of n rows}

    Workers take contiguous runs of rows, sizes apart by one at most, and give the same number of batches.
    """

    form = ParquetFormat()


class OrcDataset(FileDataset):
    """Batches from ORC files; used as ParquetDataset."""

    form = OrcFormat()
