"""Batches of files by their columns, as a model takes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from recis_core.cli.columns import DENSE, LABEL, TRUTH, Columns, field_name
from recis_core.cli.measure import GROUPS
from recis_core.cli.taker import Taker
from recis_core.io.file_dataset import FileDataset
from recis_core.io.file_set import FileSet

Batch = dict[str, Any]


class FileBatches:
    """Batches of files, of this rank's rows: their columns as a model takes them. Fields go by `field_name`."""

    def __init__(self, columns: Columns, taker: Taker) -> None:
        self.columns, self._taker = columns, taker
        self.fields = [field_name(column) for column in columns.fields]

    @property
    def dense(self) -> int:
        """How many dense inputs there are."""
        return sum(self.columns.dense.values())

    @property
    def inputs(self) -> list[str]:
        """The columns that it reads beside labels and weights."""
        return [*self.columns.fields, *self.columns.dense]

    def check_groups(self, groups: Sequence[str], *sets: FileSet) -> None:
        """Raises ValueError or TypeError where files do not hold a column of groups, or the model reads it as no ids."""
        for files in sets:
            for column in groups:
                for file in files.rows:
                    if column not in files.columns_of(file):
                        raise ValueError(
                            f"{file} has no column {column!r} for --metrics; it has {', '.join(files.columns_of(file))}."
                        )
            if groups:
                self._opened(files, 1, groups)

    def check(self, *sets: FileSet) -> None:
        """Raises ValueError or TypeError where files do not hold these columns."""
        for files in sets:
            self._opened(files, 1)

    def _opened(self, files: FileSet, batch_size: int, groups: Sequence[str] = ()) -> FileDataset:
        dataset = FileDataset(batch_size)
        dataset.use_files(files)
        self.columns.read_by(dataset)
        for column in groups:
            if column not in self.columns.fields:
                self._read_group(dataset, column)
        return dataset

    def _read_group(self, dataset: FileDataset, column: str) -> None:
        if column in (*self.inputs, self.columns.label, self.columns.truth):
            raise ValueError(f"--metrics names {column!r} as groups, which the model reads as no ids.")
        dataset.id_feature(column)

    def batches(
        self, files: FileSet, batch_size: int, begin: int, end: int, groups: Sequence[str] = ()
    ) -> Iterator[Batch]:
        """Rows begin .. end, with columns of groups for metrics beside what a model takes."""
        dataset = self._opened(files, batch_size, groups)
        dataset.window(begin, end)
        dataset.map(lambda raw: self._batch(raw) | {GROUPS + column: raw[column] for column in groups})
        return iter(self._taker.of(dataset))

    def _batch(self, raw: Batch) -> Batch:
        columns = self.columns
        batch: Batch = {name: raw[column] for name, column in zip(self.fields, columns.fields, strict=True)}
        batch.update(self._labels(raw))
        if columns.dense:
            x = torch.cat([raw[name] for name in columns.dense], dim=1)
            batch[DENSE] = x.sign() * x.abs().log1p()
        return batch

    def _labels(self, raw: Batch) -> Batch:
        named = ((LABEL, self.columns.label), (TRUTH, self.columns.truth))
        return {key: raw[column] for key, column in named if column is not None}
