"""Where `recis train` gets its batches: a synthetic preset, or Parquet and ORC files.

Every rank takes its rows of each batch. A preset makes those rows alone; of files a rank reads the row groups that
they lie in, and makes tensors of those rows alone.

A batch: {"label": float32 [B], field: ids …, "dense": float32 [B, X] if there are dense columns}.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import torch

from recis_core.cli.train_config import TrainConfig
from recis_core.io import OrcDataset, ParquetDataset, SyntheticClicks
from recis_core.io.columns import is_list
from recis_core.io.dataset import Dataset
from recis_core.io.file_dataset import FileDataset
from recis_core.io.synthetic.write import WEIGHT_SUFFIX

Batch = dict[str, Any]
TEST_BATCH = 8192


class Source(Protocol):
    """Training rows and test rows of all ranks; batches of this rank's.

    fields: names of sparse features. dense: number of dense columns.
    """

    fields: list[str]
    dense: int
    train_rows: int

    def train_batches(self, batch_size: int, *, first_row: int = 0) -> Iterator[Batch]:
        """One epoch in order, from its row `first_row` on."""
        ...

    def test_batches(self) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class Taker:
    """Who takes batches, and where to: one of `world` ranks, which together take each batch, and its device."""

    rank: int = 0
    world: int = 1
    device: str = "cpu"

    def of(self, dataset: Dataset) -> Dataset:
        dataset.device = self.device
        dataset.share_batches(self.rank, self.world)
        return dataset


def open_source(config: TrainConfig, taker: Taker = Taker()) -> Source:
    """Raises ValueError or FileNotFoundError where the config names nothing to train on."""
    if config.preset is not None:
        return PresetSource(config.preset, config.seed, config.rows, config.test_fraction, taker)
    return FileSource(str(config.data), str(config.label), config.truth, config.test_data, config.test_fraction, taker)


class PresetSource:
    """A planted-truth click log; batches also hold "p", the true probabilities."""

    dense = 0

    def __init__(self, preset: str, seed: int, rows: int | None, test_fraction: float, taker: Taker) -> None:
        self._taker = taker
        self._clicks = SyntheticClicks(preset, seed)
        self.fields = [field.name for field in self._clicks.preset.fields]
        self._rows = rows or self._clicks.preset.rows
        self.train_rows = _split(self._rows, test_fraction)

    def train_batches(self, batch_size: int, *, first_row: int = 0) -> Iterator[Batch]:
        return iter(self._taker.of(self._clicks.dataset(batch_size, start=first_row, stop=self.train_rows)))

    def test_batches(self) -> Iterator[Batch]:
        return iter(self._taker.of(self._clicks.dataset(TEST_BATCH, start=self.train_rows, stop=self._rows)))


class FileSource:
    """Files of one format: integer columns are sparse fields, floating columns dense inputs."""

    def __init__(
        self, data: str, label: str, truth: str, test_data: str | None, test_fraction: float, taker: Taker
    ) -> None:
        self._taker = taker
        self._data, self._label, self._test_data = data, label, test_data
        dataset = self._open(data, 1)
        columns = dict(dataset.columns)
        if label not in columns:
            raise ValueError(f"{data} has no column {label!r} for --label; it has {', '.join(columns)}.")
        del columns[label]
        self._truth = truth if columns.pop(truth, None) is not None else None
        self._sort_columns(columns)
        self.dense = len(self._dense)
        self.train_rows = dataset.rows if test_data is not None else _split(dataset.rows, test_fraction)

    def _sort_columns(self, columns: dict[str, pa.DataType]) -> None:
        integer = [name for name, kind in columns.items() if pa.types.is_integer(_innermost(kind))]
        floating = [name for name, kind in columns.items() if pa.types.is_floating(_innermost(kind))]
        self.fields = integer
        self._weighted = [name for name in integer if name + WEIGHT_SUFFIX in floating]
        self._dense = [name for name in floating if name.removesuffix(WEIGHT_SUFFIX) not in self._weighted]
        other = [f"{name} ({kind})" for name, kind in columns.items() if name not in integer and name not in floating]
        if other or not integer:
            raise ValueError(
                f"{self._data}: columns must hold integers or floats, at least one integers; got {', '.join(other or columns)}."
            )

    def _open(self, data: str, batch_size: int) -> FileDataset:
        kind = OrcDataset if Path(data).suffix == ".orc" else ParquetDataset
        dataset = kind(batch_size)
        dataset.add_path(data)
        return dataset

    def _batches(self, data: str, batch_size: int, begin: int, end: int | None) -> Iterator[Batch]:
        dataset = self._open(data, batch_size)
        dataset.window(begin, dataset.rows if end is None else end)
        dataset.fixedlen_feature(self._label, default_value=[float("nan")])
        for name in self._dense:
            dataset.fixedlen_feature(name, default_value=[0.0])
        if self._truth is not None:
            dataset.fixedlen_feature(self._truth, default_value=[float("nan")])
        for name in [*self.fields, *(name + WEIGHT_SUFFIX for name in self._weighted)]:
            dataset.varlen_feature(name)
        dataset.map(self._batch)
        return iter(self._taker.of(dataset))

    def _batch(self, raw: Batch) -> Batch:
        label = raw.pop(self._label)[:, 0]
        if not bool(((label == 0) | (label == 1)).all()):
            wrong = label[(label != 0) & (label != 1)][0].item()
            raise ValueError(
                f"column {self._label!r} must hold 0 or 1 in every row; got {'an empty row' if wrong != wrong else wrong}."
            )
        batch: Batch = {"label": label, **{name: raw[name] for name in self.fields}}
        for name in self._weighted:
            batch[name].set_weight(raw[name + WEIGHT_SUFFIX].values())
        if self._truth is not None:
            batch["p"] = raw[self._truth][:, 0]
        if self._dense:
            x = torch.cat([raw[name] for name in self._dense], dim=1)
            batch["dense"] = x.sign() * x.abs().log1p()
        return batch

    def train_batches(self, batch_size: int, *, first_row: int = 0) -> Iterator[Batch]:
        return self._batches(self._data, batch_size, first_row, self.train_rows)

    def test_batches(self) -> Iterator[Batch]:
        if self._test_data is not None:
            return self._batches(self._test_data, TEST_BATCH, 0, None)
        return self._batches(self._data, TEST_BATCH, self.train_rows, None)


def _split(rows: int, test_fraction: float) -> int:
    """Rows before the test's: the last ones are held out, for logs are in order of time."""
    train = rows - max(1, round(rows * test_fraction))
    if train < 1:
        raise ValueError(f"a test fraction of {test_fraction} of {rows} rows leaves none to train on.")
    return train


def _innermost(kind: pa.DataType) -> pa.DataType:
    while is_list(kind):
        kind = kind.value_type
    return kind
